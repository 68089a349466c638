"""API Gateway: REST APIs by their OpenAPI definition, deployments of them, and stages; api_gateway.py answers.

As on AWS a deployment is a snapshot: what a stage serves is the definition as it was when its deployment was made.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .kind import Kind, Place, Properties, Resource, UnsupportedChange

Authorization = Literal["AWS_IAM", "NONE"]

_METHODS = {"delete", "get", "patch", "post", "put"}
_FUNCTION = re.compile(r"arn:[\w-]+:apigateway:[\w-]+:lambda:path/2015-03-31/functions/(arn:[^/]+)/invocations")
_JSON = "application/json"
# API Gateway developer guide, "Amazon API Gateway important notes for REST APIs".
_IGNORED_IN_MODELS = {
    "additionalProperties",
    "anyOf",
    "discriminator",
    "example",
    "exclusiveMinimum",
    "oneOf",
    "readOnly",
}


@dataclass(frozen=True)
class Method:
    """A deployed method: who may call it, what it requires, and the function that answers.

    path: as it was defined, with `{names}`. schema: JSON Schema of the body, None where any body will do.
    """

    path: str
    verb: str
    authorization: Authorization
    function: str
    schema: Mapping[str, Any] | None = None
    body_required: bool = False

    @property
    def authorized(self) -> bool:
        """Whether API Gateway itself looks at who calls."""
        return self.authorization != "NONE"


@dataclass
class RestApi:
    """A REST API: its definition, its deployments by id, and which of them each stage serves."""

    definition: Mapping[str, Any]
    deployments: dict[str, tuple[Method, ...]] = field(default_factory=dict)
    stages: dict[str, str] = field(default_factory=dict)


APIS: dict[str, RestApi] = {}
"""Every REST API by its id, which no other has."""


class Api(Kind):
    """AWS::ApiGateway::RestApi whose Body is an OpenAPI 3 definition."""

    def create(self, place: Place, properties: Properties) -> Resource:
        list(methods_of(_body(properties)))
        api_id = secrets.token_hex(5)
        APIS[api_id] = RestApi(_body(properties))
        return Resource(api_id, {"RestApiId": api_id, "RootResourceId": secrets.token_hex(5)})

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        list(methods_of(_body(properties)))
        APIS[resource.physical_id].definition = _body(properties)
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        del APIS[resource.physical_id]


class Deployment(Kind):
    """AWS::ApiGateway::Deployment: the API's methods as they are defined at this moment."""

    replaced_by = frozenset({"RestApiId"})

    def create(self, place: Place, properties: Properties) -> Resource:
        api = APIS[properties["RestApiId"]]
        deployment_id = secrets.token_hex(3)
        api.deployments[deployment_id] = tuple(methods_of(api.definition))
        return Resource(deployment_id, {"DeploymentId": deployment_id}, detail=properties["RestApiId"])

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        api = APIS[resource.detail]
        if resource.physical_id in api.stages.values():
            raise UnsupportedChange("AWS::ApiGateway::Deployment: active stages point to it")
        del api.deployments[resource.physical_id]


class Stage(Kind):
    """AWS::ApiGateway::Stage; its throttling, logging and tracing have no effect."""

    replaced_by = frozenset({"RestApiId", "StageName"})

    def create(self, place: Place, properties: Properties) -> Resource:
        name = properties["StageName"]
        APIS[properties["RestApiId"]].stages[name] = properties["DeploymentId"]
        return Resource(name, detail=properties["RestApiId"])

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        APIS[resource.detail].stages[resource.physical_id] = properties["DeploymentId"]
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        del APIS[resource.detail].stages[resource.physical_id]


def methods_of(definition: Mapping[str, Any]) -> Iterator[Method]:
    """The methods of an OpenAPI definition with API Gateway's extensions.

    Raises:
        UnsupportedChange: a part of it means something that is not known here, or a method has no function.
    """
    if "security" in definition:
        raise UnsupportedChange(
            "AWS::ApiGateway::RestApi: security is defined for the whole API, which API Gateway ignores: "
            "define it for every method"
        )
    paths: Mapping[str, Any] = definition["paths"]
    for path, item in paths.items():
        for verb, operation in item.items():
            if verb not in _METHODS:
                raise UnsupportedChange(f"AWS::ApiGateway::RestApi: {path} has {verb}, which is unknown here")
            yield _method(definition, path, verb, operation)


def _method(definition: Mapping[str, Any], path: str, verb: str, operation: Mapping[str, Any]) -> Method:
    where = f"AWS::ApiGateway::RestApi: {verb.upper()} {path}"
    integration = operation.get("x-amazon-apigateway-integration", {})
    function = _FUNCTION.fullmatch(integration.get("uri", ""))
    if integration.get("type") != "aws_proxy" or integration.get("httpMethod") != "POST" or function is None:
        raise UnsupportedChange(f"{where} needs an integration aws_proxy by POST with a function")
    validator = operation.get(
        "x-amazon-apigateway-request-validator", definition.get("x-amazon-apigateway-request-validator")
    )
    validators = definition.get("x-amazon-apigateway-request-validators", {})
    if validator and validator not in validators:
        raise UnsupportedChange(f"{where} names the request validator {validator}, which is not defined")
    validates = validators.get(validator, {})
    body = operation.get("requestBody", {}) if validates.get("validateRequestBody") else {}
    schema = body.get("content", {}).get(_JSON, {}).get("schema")
    if validates.get("validateRequestParameters"):
        raise UnsupportedChange(f"{where} has its parameters validated, which the local cloud doesn't do")
    if unknown := _IGNORED_IN_MODELS & set(_names(definition.get("components", {}).get("schemas", {}))):
        raise UnsupportedChange(f"{where}: models can't have {sorted(unknown)}: API Gateway ignores them")
    return Method(
        path,
        verb.upper(),
        _authorization(definition, operation, where),
        function[1],
        # References in it are found from the definition's root.
        {"components": definition.get("components", {}), "allOf": [schema]} if schema else None,
        bool(body.get("required")),
    )


def _authorization(definition: Mapping[str, Any], operation: Mapping[str, Any], where: str) -> Authorization:
    security = operation.get("security", [])
    if not security:
        return "NONE"
    schemes = definition.get("components", {}).get("securitySchemes", {})
    names = [name for entry in security for name in entry]
    if len(names) != 1 or schemes.get(names[0], {}).get("x-amazon-apigateway-authtype") != "awsSigv4":
        raise UnsupportedChange(f"{where} is authorized by {names}; the local cloud knows a scheme of awsSigv4 alone")
    return "AWS_IAM"


def _names(schemas: Any) -> Iterator[str]:
    """Every name of a member, at any depth."""
    if isinstance(schemas, dict):
        yield from schemas
    children = schemas.values() if isinstance(schemas, dict) else schemas if isinstance(schemas, list) else ()
    for child in children:
        yield from _names(child)


def _body(properties: Properties) -> Mapping[str, Any]:
    if "Body" not in properties:
        raise UnsupportedChange("AWS::ApiGateway::RestApi: needs its definition as Body")
    body: Mapping[str, Any] = properties["Body"]
    return body
