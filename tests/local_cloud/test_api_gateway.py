"""API Gateway of the local cloud: the deployed stage decides who gets through, and with what."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from .local_stacks import REGION, Operator, function, operator, role, values

CODE = "apis-code"
URI = "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/${Function.Arn}/invocations"
SIGNED: list[dict[str, list[str]]] = [{"sigv4": []}]


@pytest.fixture(scope="module")
def op() -> Iterator[Operator]:
    with operator() as running:
        running.upload(CODE, "code.zip")
        yield running


def method(**fields: Any) -> dict[str, Any]:
    integration = {"type": "aws_proxy", "httpMethod": "POST", "uri": {"Fn::Sub": URI}}
    return {"security": SIGNED, "x-amazon-apigateway-integration": integration, **fields}


ITEM = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string", "pattern": "^[a-z]+$"}},
}
PATHS = {
    "/items": {
        "post": method(
            requestBody={
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Item"}}},
            },
        )
    },
    "/items/{id}": {"get": method(), "delete": method()},
    "/items/all": {"get": method()},
    "/open/{id}": {"get": method(security=[])},
}
SCHEMES = {
    "sigv4": {
        "type": "apiKey",
        "name": "Authorization",
        "in": "header",
        "x-amazon-apigateway-authtype": "awsSigv4",
    }
}
DEFINITION = {
    "openapi": "3.0.1",
    "info": {"title": "test", "version": "1"},
    "x-amazon-apigateway-request-validators": {"body": {"validateRequestBody": True}},
    "x-amazon-apigateway-request-validator": "body",
    "paths": PATHS,
    "components": {
        "securitySchemes": SCHEMES,
        "schemas": {"Item": ITEM},
    },
}
PERMISSION = {
    "Type": "AWS::Lambda::Permission",
    "Properties": {
        "FunctionName": {"Ref": "Function"},
        "Action": "lambda:InvokeFunction",
        "Principal": "apigateway.amazonaws.com",
        "SourceArn": {"Fn::Sub": "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}/v1/*"},
    },
}


def resources(definition: Any = None, deployment: str = "First", answer: str = "proxy") -> dict[str, Any]:
    return {
        "FunctionRole": role("lambda.amazonaws.com"),
        "Function": function(CODE, answer),
        "Permission": PERMISSION,
        "Api": {"Type": "AWS::ApiGateway::RestApi", "Properties": {"Name": "api", "Body": definition or DEFINITION}},
        deployment: {
            "Type": "AWS::ApiGateway::Deployment",
            "Properties": {"RestApiId": {"Ref": "Api"}},
        },
        "Stage": {
            "Type": "AWS::ApiGateway::Stage",
            "Properties": {"RestApiId": {"Ref": "Api"}, "DeploymentId": {"Ref": deployment}, "StageName": "v1"},
        },
    }


OUTPUTS = values(Api={"Ref": "Api"}, Function={"Ref": "Function"})


class Api:
    """A deployed API and those who call it."""

    def __init__(self, op: Operator, api_id: str) -> None:
        self.op = op
        self.id = api_id
        self.url = f"{op.cloud.endpoint}/execute-api/{api_id}/v1"
        self._http = urllib3.PoolManager(retries=False)

    def call(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        by: Any = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        request = AWSRequest(verb, self.url + path, headers={**(headers or {})}, data=content)
        if by is not None:
            SigV4Auth(by, "execute-api", REGION).add_auth(request)
        answer = self._http.request(verb, self.url + path, body=content, headers=dict(request.headers))
        return answer.status, json.loads(answer.data or b"null")

    def as_operator(self, verb: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        operator = self.op.cloud.operator
        by = Credentials(operator.access_key_id, operator.secret_access_key)
        return self.call(verb, path, body, by=by, **options)

    def caller(self, name: str, *resources: str) -> Credentials:
        """A role that may call these methods: `GET/items/*`."""
        statement = {
            "Effect": "Allow",
            "Action": "execute-api:Invoke",
            "Resource": [f"arn:aws:execute-api:{REGION}:123456789012:{self.id}/v1/{path}" for path in resources],
        }
        policy = {"PolicyName": "own", "PolicyDocument": {"Version": "2012-10-17", "Statement": [statement]}}
        self.op.create(name, {"Caller": role("lambda.amazonaws.com", RoleName=name, Policies=[policy])})
        session = self.op.cloud._roles.session(
            f"arn:aws:iam::123456789012:role/{name}",
            service="lambda.amazonaws.com",
            source_arn="any",
            name="test",
        )
        return session.get_credentials()


@pytest.fixture(scope="module")
def api(op: Operator) -> Api:
    return Api(op, op.create("api", resources(), Outputs=OUTPUTS)["Api"])


def test_the_function_gets_the_request_and_its_answer_goes_out(api: Api) -> None:
    status, event = api.as_operator("GET", "/items/a%20b?x=1&x=2", headers={"Accept": "text/plain"})
    assert status == 200
    assert (event["resource"], event["path"], event["httpMethod"]) == ("/items/{id}", "/items/a b", "GET")
    assert event["pathParameters"] == {"id": "a b"}
    assert event["multiValueQueryStringParameters"] == {"x": ["1", "2"]}
    assert event["headers"]["Accept"] == "text/plain"
    assert event["requestContext"]["identity"]["userArn"].endswith("user/operator")
    assert event["body"] is None


def test_a_whole_segment_wins_over_a_parameter(api: Api) -> None:
    assert api.as_operator("GET", "/items/all")[1]["resource"] == "/items/all"


def test_a_signed_method_takes_no_unsigned_call(api: Api) -> None:
    before = api.op.cloud.decisions.position()
    assert api.call("GET", "/items/x") == (403, {"message": "Missing Authentication Token"})
    [decision] = api.op.cloud.decisions.since(before)
    assert (decision.principal, decision.allowed) == ("anonymous", False)
    assert decision.resource.endswith(f"{api.id}/v1/GET/items/x")


def test_an_open_method_takes_it_and_knows_nobody(api: Api) -> None:
    status, event = api.call("GET", "/open/x")
    assert (status, event["pathParameters"]) == (200, {"id": "x"})
    assert event["requestContext"]["identity"]["userArn"] is None


def test_a_wrong_signature_is_refused_on_every_method(api: Api) -> None:
    wrong = Credentials(api.op.cloud.operator.access_key_id, "wrong")
    for path in ("/items/x", "/open/x"):
        assert api.call("GET", path, by=wrong)[0] == 403


def test_a_signature_for_another_service_does_not_call_the_api(api: Api) -> None:
    request = AWSRequest("GET", api.url + "/items/x")
    operator = api.op.cloud.operator
    SigV4Auth(Credentials(operator.access_key_id, operator.secret_access_key), "lambda", REGION).add_auth(request)
    answer = urllib3.request("GET", request.url, headers=dict(request.headers))
    assert (answer.status, answer.data[:9]) == (404, b"<!doctype")


@pytest.mark.parametrize(("verb", "path"), [("GET", "/nothing"), ("PUT", "/items/x"), ("GET", "/items"), ("GET", "/")])
def test_what_no_method_matches_is_as_good_as_unsigned(api: Api, verb: str, path: str) -> None:
    assert api.as_operator(verb, path) == (403, {"message": "Missing Authentication Token"})


def test_a_caller_is_judged_by_its_policies_on_verb_and_path(api: Api) -> None:
    caller = api.caller("reads-some", "GET/items/mine", "GET/items/mine/*")
    assert api.call("GET", "/items/mine", by=caller)[0] == 200
    for verb, path in (("GET", "/items/other"), ("DELETE", "/items/mine"), ("GET", "/items/mine2")):
        status, body = api.call(verb, path, by=caller)
        assert (status, list(body)) == (403, ["Message"])
        assert "is not authorized to perform: execute-api:Invoke" in body["Message"]


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [None, b"", b"{", b"[]", {"name": "UPPER"}, {"name": 1}, {}],
    ids=["none", "empty", "no json", "no object", "pattern", "type", "missing"],
)
def test_a_body_that_its_model_does_not_know_is_refused(api: Api, body: Any) -> None:
    assert api.as_operator("POST", "/items", body, headers=JSON) == (400, {"message": "Invalid request body"})


def test_a_body_that_fits_gets_through(api: Api) -> None:
    status, event = api.as_operator("POST", "/items", {"name": "a"}, headers=JSON)
    assert (status, json.loads(event["body"])) == (200, {"name": "a"})


def test_a_body_of_another_type_gets_through_without_a_look(api: Api) -> None:
    # As on AWS: so the function has to look at it too.
    assert api.as_operator("POST", "/items", b"<x/>", headers={"Content-Type": "text/xml"})[0] == 200


@pytest.mark.parametrize(("name", "answer"), [("raises", "raise"), ("says-text", "text"), ("echoes", "event")])
def test_what_is_no_answer_of_a_proxy_is_an_internal_error(op: Operator, name: str, answer: str) -> None:
    broken = Api(op, op.create(name, resources(answer=answer), Outputs=OUTPUTS)["Api"])
    assert broken.as_operator("GET", "/items/x") == (502, {"message": "Internal server error"})


def test_a_function_that_gives_the_api_no_permission_is_not_invoked(op: Operator) -> None:
    unpermitted = {name: made for name, made in resources().items() if name != "Permission"}
    broken = Api(op, op.create("unpermitted", unpermitted, Outputs=OUTPUTS)["Api"])
    assert broken.as_operator("GET", "/items/x") == (502, {"message": "Internal server error"})


def test_a_changed_definition_is_served_with_the_next_deployment_and_no_sooner(op: Operator) -> None:
    changed = {**DEFINITION, "paths": {"/new": {"get": method()}}}
    served = Api(op, op.create("snapshot", resources(), Outputs=OUTPUTS)["Api"])
    op.update("snapshot", resources(changed), Outputs=OUTPUTS)
    assert served.as_operator("GET", "/new")[0] == 403
    op.update("snapshot", resources(changed, "Second"), Outputs=OUTPUTS)
    assert served.as_operator("GET", "/new")[0] == 200
    assert served.as_operator("GET", "/items/x")[0] == 403


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("no-function", {"/x": {"get": {"security": SIGNED}}}),
        ("no-such-scheme", {"/x": {"get": method(security=[{"unheard": []}])}}),
        ("unknown-scheme", {"/x": {"get": method(security=[{"token": []}])}}),
        ("any-method", {"/x": {"x-amazon-apigateway-any-method": method()}}),
    ],
)
def test_a_definition_that_is_not_understood_fails_its_stack(op: Operator, name: str, paths: Any) -> None:
    components = {"securitySchemes": {**SCHEMES, "token": {"type": "apiKey"}}}
    op.create(name, resources({**DEFINITION, "components": components, "paths": paths}))
    assert op.status(name) == "ROLLBACK_COMPLETE"


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        # It would be ignored, and every method would be open.
        ("security-of-all", {"security": SIGNED}),
        ("ignored-in-models", {"components": {"schemas": {"Item": {**ITEM, "additionalProperties": False}}}}),
        (
            "validated-parameters",
            {"x-amazon-apigateway-request-validators": {"body": {"validateRequestParameters": True}}},
        ),
    ],
)
def test_what_api_gateway_would_ignore_fails_its_stack(op: Operator, name: str, changes: Any) -> None:
    op.create(name, resources({**DEFINITION, **changes}))
    assert op.status(name) == "ROLLBACK_COMPLETE"


def test_a_method_that_says_nothing_of_security_is_open(op: Operator) -> None:
    silent = method()
    del silent["security"]
    opened = Api(
        op, op.create("silent", resources({**DEFINITION, "paths": {"/x": {"get": silent}}}), Outputs=OUTPUTS)["Api"]
    )
    assert opened.call("GET", "/x")[0] == 200


def test_a_stage_of_a_deleted_stack_answers_nobody(op: Operator) -> None:
    gone = Api(op, op.create("gone", resources(), Outputs=OUTPUTS)["Api"])
    assert gone.as_operator("GET", "/items/x")[0] == 200
    op.cloudformation.delete_stack(StackName="gone")
    assert gone.as_operator("GET", "/items/x") == (403, {"message": "Forbidden"})
