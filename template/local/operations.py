"""From an HTTP request to the AWS operation it calls, and back, by botocore's service models.

Routing, parsing and serialising are moto's, so that what is judged is read by the very code that
moto executes it with. What moto would read in two ways is refused here: see `_check_unambiguous`.
Types and required members are settled when a call is parsed. Patterns, enums, bounds and unions are
settled by `validate`: botocore checks hardly any of them on the client's side, and an attacker needs
no botocore at all.
"""

import binascii
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from botocore.exceptions import BotoCoreError
from botocore.model import OperationNotFoundError
from botocore.utils import parse_timestamp
from botocore.validate import ParamValidator
from moto.core.parse import PROTOCOL_PARSERS, RequestParserError
from moto.core.request import Request as RoutedRequest
from moto.core.request import determine_request_protocol
from moto.core.routing import get_service_router
from moto.core.serialize import SerializationContext, get_serializer_class
from moto.core.utils import get_service_model
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from .authorization import Principal


@dataclass(frozen=True)
class Call:
    """One AWS API call as it arrived.

    Attributes:
        service: botocore's service name ("dynamodb", "bedrock-agentcore", "sts", ...).
        operation: API name ("GetItem").
        params: parsed by the service model: URI, query string, headers, body; form fields for the
            query protocol. Members that the model does not know are left out.
    """

    service: str
    operation: str
    params: dict[str, Any]
    principal: "Principal"
    request: Request
    region: str


class ServiceError(Exception):
    """An error that a service answers with; serialised by the service's protocol."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


Handler = Callable[[Call], dict[str, Any] | Response]
"""Answers one operation: a dict is serialised by the protocol, a Response goes out as it is."""


@dataclass(frozen=True)
class Operation:
    """The operation that a request calls, before its parameters are read."""

    service: str
    model: Any
    protocol: str
    uri_params: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.model.name)


# --- Which service, which operation ---------------------------------------------------------------

# Signing names that are not the name of one botocore service. Order is moto's own: where two
# services of a name match a path, the first is the one that moto would run.
_SERVICES: Mapping[str, tuple[str, ...]] = {
    "bedrock": ("bedrock", "bedrock-agent", "bedrock-runtime", "bedrock-agent-runtime"),
    "bedrock-agentcore": ("bedrock-agentcore", "bedrock-agentcore-control"),
    "dynamodb": ("dynamodb", "dynamodbstreams"),
    "monitoring": ("cloudwatch",),
    "states": ("stepfunctions",),
    "tagging": ("resourcegroupstaggingapi",),
}


def resolve(request: RoutedRequest, signing_name: str) -> Operation:
    """The operation that `request` calls.

    Args:
        request: with its body already read (`get_data`) and authentication left out of its query.
        signing_name: the service in the signature's scope.

    Raises:
        ServiceError: no such service or operation, or the request can be read in two ways.
    """
    for service in _SERVICES.get(signing_name, (signing_name,)):
        try:
            protocol = determine_request_protocol(get_service_model(service), request.content_type)
            model, uri_params = get_service_router(service).match(request)
        except (HTTPException, BotoCoreError, NotImplementedError):
            continue
        operation = Operation(service, model, protocol, uri_params)
        _check_unambiguous(operation, request)
        return operation
    raise ServiceError(
        "UnknownOperationException",
        f"{request.method} {request.path}: no operation of {signing_name} is called like this",
        404,
    )


def find_operation(service: str, name: str) -> Operation | None:
    """The operation of this name, without a request; None when the service has none."""
    model = get_service_model(service)
    try:
        return Operation(service, model.operation_model(name), str(model.protocol), {})
    except OperationNotFoundError:
        return None


def protocol_of(signing_name: str) -> str:
    """The main protocol of a service, to answer in when the operation is not known."""
    try:
        service = _SERVICES.get(signing_name, (signing_name,))[0]
        return str(get_service_model(service).protocol)
    except BotoCoreError:
        return "json"


def _check_unambiguous(operation: Operation, request: RoutedRequest) -> None:
    """Refuse a request in which somebody else could read another operation or other parameters."""
    if operation.protocol == "json":
        clear = request.raw_path == "/" and not request.query_string
    elif operation.protocol in ("query", "ec2"):
        clear = not request.query_string and all(len(values) == 1 for _, values in request.form.lists())
    else:
        clear = _is_clear_rest(operation, request)
    if not clear:
        raise ServiceError(
            "ValidationException",
            f"the request holds more than {operation.name} takes: send its own members, each once",
        )


def _is_clear_rest(operation: Operation, request: RoutedRequest) -> bool:
    members = operation.model.input_shape.members if operation.model.input_shape else {}
    located = {name: shape for name, shape in members.items() if "location" in shape.serialization}
    queries = {
        shape.serialization.get("name", name): shape
        for name, shape in located.items()
        if shape.serialization["location"] == "querystring"
    }
    known = queries.keys() | operation.model.http_trait.query_args.keys() | {"x-id"}
    open_map = any(shape.type_name == "map" for shape in queries.values())
    for name, values in request.args.lists():
        repeatable = name in queries and queries[name].type_name == "list"
        if not open_map and (name not in known or (len(values) > 1 and not repeatable)):
            return False
    if "X-Amz-Target" in request.headers:
        return False
    if operation.service == "s3":
        # moto takes a form apart into parameters, makes any PUT with a copy source a copy, and
        # gives this path to another service.
        copies = "CopySource" in members or "x-amz-copy-source" not in request.headers
        form = (request.mimetype or "").endswith(("form-data", "form-urlencoded"))
        return copies and not form and not request.raw_path.startswith("/v20180820/")
    if not members or "payload" in operation.model.input_shape.serialization:
        return True
    # moto lets a member of the body stand in for the same member of the path.
    body = request.get_json(force=True, silent=True) if request.get_data() else {}
    return isinstance(body, dict) and not (body.keys() & located.keys())


# --- Parameters -----------------------------------------------------------------------------------

_validator = ParamValidator()


def parse(operation: Operation, request: RoutedRequest) -> dict[str, Any]:
    """The parameters of the call, of the types and with the required members of the service model.

    Raises:
        ServiceError: the request does not fit the model.
    """
    parser = PROTOCOL_PARSERS[operation.protocol](operation.model, timestamp_parser=parse_timestamp)
    try:
        params: dict[str, Any] = parser.parse(
            {
                "method": request.method,
                "values": request.values,
                "headers": request.headers,
                "body": request.get_data(),
                "url_path": request.path,
                "url_params": dict(operation.uri_params),
            }
        )
        report = _validator.validate(params, operation.model.input_shape).generate_report()
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
        RequestParserError,
        binascii.Error,
    ) as error:
        raise ServiceError("SerializationException", f"the parameters of {operation.name} can't be read") from error
    if report:
        raise ServiceError("ValidationException", report.replace("\n", "; "))
    return params


# --- Answers --------------------------------------------------------------------------------------


def respond(operation: Operation, result: dict[str, Any]) -> Response:
    """`result` in the shape and protocol of the operation."""
    serializer = get_serializer_class(operation.service, operation.protocol)
    context = SerializationContext(str(uuid.uuid4()))
    answer = serializer(operation.model, context).serialize(result)
    response = Response(answer["body"], answer["status_code"], answer["headers"])
    response.headers["x-amzn-requestid"] = context.request_id
    return response


def refuse(protocol: str, error: ServiceError) -> Response:
    """`error` in the shape in which services of `protocol` answer it."""
    request_id = str(uuid.uuid4())
    code, message = escape(error.code), escape(error.message)
    if protocol == "rest-xml":
        body = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{request_id}</RequestId></Error>"
        response = Response(body, error.status, content_type="application/xml")
    elif protocol in ("query", "ec2"):
        body = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code>"
            f"<Message>{message}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        response = Response(body, error.status, content_type="text/xml")
    else:
        document = {"__type": error.code, "message": error.message}
        response = Response(json.dumps(document), error.status, content_type="application/x-amz-json-1.0")
        response.headers["x-amzn-errortype"] = error.code
    response.headers["x-amzn-requestid"] = request_id
    return response


def validate(call: Call) -> None:
    """Check a call against its input shape.

    Raises:
        ServiceError: `ValidationException` that names every broken constraint, worded as by AWS.
    """
    shape = get_service_model(call.service).operation_model(call.operation).input_shape
    broken = list(_violations(shape, call.params, ""))
    if broken:
        noun = "error" if len(broken) == 1 else "errors"
        message = f"{len(broken)} validation {noun} detected: {'; '.join(broken)}"
        raise ServiceError("ValidationException", message)


def _violations(shape: Any, value: Any, path: str) -> Iterator[str]:
    """A sentence for each broken constraint of a value and its members; `path` leads to it."""
    constraint = _broken_constraint(shape, value)
    if constraint:
        yield f"Value at '{path}' failed to satisfy constraint: Member must {constraint}"
    elif shape.type_name == "structure" and not shape.is_document_type:
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _violations(member, value[name], f"{path}.{name}" if path else name)
    elif shape.type_name == "list":
        for index, item in enumerate(value):
            yield from _violations(shape.member, item, f"{path}.{index + 1}.member")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from _violations(shape.key, key, f"{path}.key")
            yield from _violations(shape.value, item, f"{path}.{key}.member")


def _broken_constraint(shape: Any, value: Any) -> str | None:
    """What the value itself must do and doesn't."""
    rules = shape.metadata
    if shape.type_name == "structure":
        if shape.is_tagged_union and sum(member is not None for member in value.values()) != 1:
            return "have exactly one member set"
        return None
    has_length = isinstance(value, str | bytes | list | dict)
    size, what = (len(value), "length") if has_length else (value, "value")
    # Sizes before patterns: no regular expression meets a text of unlimited length.
    if "min" in rules and size < rules["min"]:
        return f"have {what} greater than or equal to {rules['min']}"
    if "max" in rules and size > rules["max"]:
        return f"have {what} less than or equal to {rules['max']}"
    if "enum" in rules and value not in rules["enum"]:
        return f"satisfy enum value set: [{', '.join(rules['enum'])}]"
    if "pattern" in rules and not _pattern(rules["pattern"]).fullmatch(value):
        return f"satisfy regular expression pattern: {rules['pattern']}"
    return None


@cache
def _pattern(text: str) -> re.Pattern[str]:
    # The services' patterns are ASCII; Python's \w, \s and \d would let other alphabets in.
    return re.compile(text, re.ASCII)
