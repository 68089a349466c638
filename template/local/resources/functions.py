"""Lambda: functions and who may invoke them."""

import json
from typing import Any

from moto.awslambda.utils import get_backend as lambda_backend

from .kind import Kind, Place, Properties, Resource, UnsupportedChange, without
from .storage import require_object


def _require_code(place: Place, code: Properties) -> None:
    if not code.get("S3Bucket") or not code.get("S3Key"):
        raise UnsupportedChange("AWS::Lambda::Function: Code needs S3Bucket and S3Key")
    require_object(place, code["S3Bucket"], code["S3Key"])


def _note(function: Any, properties: Properties) -> None:
    """Keep with the function what moto doesn't: where its lines and its failed events go."""
    logging = properties.get("LoggingConfig", {})
    function.log_group = logging.get("LogGroup") or f"/aws/lambda/{function.function_name}"
    function.dead_letter_arn = properties.get("DeadLetterConfig", {}).get("TargetArn")


class Function(Kind):
    """AWS::Lambda::Function with code from S3."""

    replaced_by = frozenset({"FunctionName", "PackageType"})
    tags = ("Tags", list)

    def create(self, place: Place, properties: Properties) -> Resource:
        _require_code(place, properties["Code"])
        tags = {tag["Key"]: tag["Value"] for tag in properties.get("Tags", [])}
        function = lambda_backend(place.account, place.region).create_function(
            {
                **properties,
                "FunctionName": properties.get("FunctionName") or place.name(),
                "Tags": tags,
            }
        )
        _note(function, properties)
        return Resource(function.function_name, {"Arn": function.function_arn})

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        _require_code(place, properties["Code"])
        function = lambda_backend(place.account, place.region).get_function(resource.physical_id)
        function.update_configuration(dict(properties))
        function.environment_vars = properties.get("Environment", {}).get("Variables", {})
        _note(function, properties)
        if properties["Code"] != former["Code"]:
            function.update_function_code(dict(properties["Code"]))
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        lambda_backend(place.account, place.region).delete_function(resource.physical_id)


class Permission(Kind):
    """AWS::Lambda::Permission: a statement of the function's resource policy."""

    replaced_by = frozenset({"FunctionName", "Action", "Principal", "SourceArn", "SourceAccount", "PrincipalOrgID"})

    def create(self, place: Place, properties: Properties) -> Resource:
        statement_id = place.name(100)
        function = lambda_backend(place.account, place.region).get_function(properties["FunctionName"])
        statement = {**without(properties, "FunctionName"), "StatementId": statement_id}
        function.policy.add_statement(json.dumps(statement))
        return Resource(statement_id, {"Id": statement_id}, detail=function.function_name)

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        function = lambda_backend(place.account, place.region).get_function(resource.detail)
        function.policy.del_statement(resource.physical_id)
