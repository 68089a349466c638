"""Lambda: runs deployed functions in this process, in their role and with their environment.

The code that runs is the source tree's; what decides how it runs (handler, environment, role, who
may invoke it) is what was deployed.
"""

import base64
import inspect
import json
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from typing import Any

import boto3
from botocore.exceptions import ClientError
from moto.awslambda.utils import get_backend as lambda_backend
from moto.logs.models import LogsBackend, logs_backends

from saas_agent.errors import INTERNAL

from .authorization import Authorizer
from .gate import Gate
from .iam import Request, evaluate
from .operations import Call, ServiceError
from .service_roles import ServiceRoles

FetchKeys = Callable[[str], dict[str, Any]]
Handler = Callable[[Any, object], Any]

_PRINCIPAL = "lambda.amazonaws.com"
_ACTION = "lambda:InvokeFunction"
_RETRIES = 2  # of an asynchronous invocation
# What a function raises that says no: a code, as the agent's own refusals have one. Anything else is a failure.
_REFUSAL = re.compile(r"[a-z_]+")
_POLICY_ELEMENTS = ("Sid", "Effect", "Action", "Principal", "Condition")


class FunctionError(Exception):
    """A function raised. Holds what Lambda reports of it; never a stack trace."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(f"{error_type}: {message}")
        self.error_type = error_type
        self.message = message


class InvocationRefused(Exception):
    """The function's resource policy doesn't let the service invoke it."""


@dataclass(frozen=True)
class ClientContext:
    """What the invoker says besides the event."""

    custom: Mapping[str, Any]


@dataclass(frozen=True)
class Context:
    """Second argument of a handler, as far as Lambda documents it and handlers here may use it."""

    function_name: str
    invoked_function_arn: str
    memory_limit_in_mb: int
    function_version: str = "$LATEST"
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    client_context: ClientContext | None = None


@dataclass(frozen=True)
class _Built:
    configuration: tuple[str, ...]
    handler: Handler


class Functions:
    """The deployed functions of one account and region.

    fetch_keys: gives an issuer's JWKS to handlers whose `create` asks for it. One that asks for `write`
    gets what prints a line into the function's log group.
    """

    def __init__(self, account: str, region: str, roles: ServiceRoles, fetch_keys: FetchKeys) -> None:
        self._account = account
        self._region = region
        self._roles = roles
        self._fetch_keys = fetch_keys
        self._built: dict[str, _Built] = {}
        self._lock = threading.Lock()

    def register(self, gate: Gate) -> None:
        """Answer Lambda's Invoke at the gate."""
        gate.handle("lambda", "Invoke", partial(self._answer, gate.authorizer))

    def invoke(self, name_or_arn: str, event: Any, client_context: ClientContext | None = None) -> Any:
        """What the function's handler returns for `event`; both pass through JSON, as on AWS.

        Raises:
            LookupError: there is no such function.
            FunctionError: the handler raised, or can't be built.
        """
        function = self._find(name_or_arn)
        context = Context(
            function.function_name, function.function_arn, function.memory_size, client_context=client_context
        )
        try:
            handler = self._handler(function)
            return json.loads(json.dumps(handler(json.loads(json.dumps(event)), context)))
        except Exception as error:
            raise FunctionError(type(error).__name__, str(error)) from error

    def invoke_for(self, service: str, source_arn: str, name_or_arn: str, event: Any) -> Any:
        """`invoke` on behalf of an AWS service, if the function's resource policy allows it.

        Raises:
            InvocationRefused: it doesn't.
        """
        if not self.may_be_invoked(service, source_arn, name_or_arn):
            raise InvocationRefused(
                f"{service} may not invoke {self._find(name_or_arn).function_name} for {source_arn}: "
                "an AWS::Lambda::Permission for it is missing"
            )
        return self.invoke(name_or_arn, event)

    def may_be_invoked(self, service: str, source_arn: str, name_or_arn: str) -> bool:
        """Whether the function's resource policy lets the service invoke it for this resource."""
        function = self._find(name_or_arn)
        statements = [
            {name: statement[name] for name in _POLICY_ELEMENTS if name in statement}
            for statement in function.policy.statements
        ]
        request = Request(
            _ACTION,
            function.function_arn,
            {"aws:SourceArn": source_arn, "aws:SourceAccount": self._account},
            service=service,
        )
        policy = {"Version": "2012-10-17", "Statement": statements}
        return evaluate([policy], request, trust=True).allowed

    def deliver(self, service: str, source_arn: str, name_or_arn: str, event: Any) -> None:
        """`invoke_for`, asynchronously: tried again where the function raises, and then put into its dead-letter queue.

        As on AWS nobody learns of a failure here; and without a queue the event is lost (Lambda developer guide,
        "Invoking a Lambda function asynchronously"). The tries follow each other at once.
        """
        for _ in range(1 + _RETRIES):
            try:
                self.invoke_for(service, source_arn, name_or_arn, event)
                return
            except FunctionError as error:
                failure = error
            except InvocationRefused:
                return
        function = self._find(name_or_arn)
        if not function.dead_letter_arn:
            return
        # Denied or not, nobody is told: on AWS a metric counts it.
        with suppress(ClientError):
            client = self._session(function).client("sqs")
            client.send_message(
                QueueUrl=f"{client.meta.endpoint_url}/{self._account}/{function.dead_letter_arn.rpartition(':')[2]}",
                MessageBody=json.dumps(event),
                MessageAttributes={
                    "ErrorMessage": {"DataType": "String", "StringValue": failure.message[:1024] or failure.error_type}
                },
            )

    def _find(self, name_or_arn: str) -> Any:
        name = name_or_arn.split(":function:")[-1].split(":")[0]
        functions = lambda_backend(self._account, self._region)._lambdas._functions
        if name not in functions:
            raise LookupError(f"Function not found: {name_or_arn}")
        return functions[name]["latest"]

    def _handler(self, function: Any) -> Handler:
        """The function's handler, built once for each deployed configuration."""
        configuration = (
            str(function.handler),
            str(function.role),
            str(function.code_sha_256),
            json.dumps(function.environment_vars, sort_keys=True),
        )
        with self._lock:
            built = self._built.get(function.function_arn)
            if built is None or built.configuration != configuration:
                built = _Built(configuration, self._build(function))
                self._built[function.function_arn] = built
        return built.handler

    def _build(self, function: Any) -> Handler:
        create = import_module(function.handler.rpartition(".")[0]).create
        environ: Mapping[str, str] = {
            **function.environment_vars,
            "AWS_REGION": self._region,
            "AWS_LAMBDA_FUNCTION_NAME": function.function_name,
        }
        offered = {"fetch_keys": self._fetch_keys, "write": self._log_of(function)}
        wanted = inspect.signature(create).parameters
        handler: Handler = create(
            environ,
            self._session(function),
            **{name: value for name, value in offered.items() if name in wanted},
        )
        return handler

    def _session(self, function: Any) -> boto3.Session:
        return self._roles.session(
            function.role,
            service=_PRINCIPAL,
            source_arn=function.function_arn,
            name=function.function_name,
        )

    def _log_of(self, function: Any) -> Callable[[str], None]:
        """Writes a line that the function prints to its log group."""
        logs: LogsBackend = logs_backends[self._account][self._region]
        stream = f"{datetime.now(UTC):%Y/%m/%d}/[$LATEST]{uuid.uuid4().hex}"

        def write(line: str) -> None:
            logs.ensure_log_group(function.log_group)
            if stream not in logs.groups[function.log_group].streams:
                logs.create_log_stream(function.log_group, stream)
            milliseconds = int(datetime.now(UTC).timestamp() * 1000)
            logs.put_log_events(function.log_group, stream, [{"timestamp": milliseconds, "message": line.rstrip()}])

        return write

    def _answer(self, authorizer: Authorizer, call: Call) -> dict[str, Any]:
        if call.params.get("InvocationType", "RequestResponse") != "RequestResponse":
            raise ServiceError(
                "InvalidParameterValueException",
                "the local cloud invokes functions with RequestResponse only",
            )
        try:
            event = json.loads(call.params.get("Payload") or b"null")
        except ValueError:
            raise ServiceError("InvalidRequestContentException", "Could not parse request body into json") from None
        answer: dict[str, Any] = {"StatusCode": 200, "ExecutedVersion": "$LATEST"}
        try:
            result = self.invoke(call.params["FunctionName"], event, _client_context(call.params.get("ClientContext")))
        except LookupError as error:
            raise ServiceError("ResourceNotFoundException", str(error), 404) from None
        except FunctionError as error:
            if _REFUSAL.fullmatch(error.message) and error.message != INTERNAL.code:
                arn = self._find(call.params["FunctionName"]).function_arn
                authorizer.deny(call.principal, _ACTION, error.message, resource=arn, source="agent")
            answer["FunctionError"] = "Unhandled"
            result = {"errorMessage": error.message, "errorType": error.error_type}
        answer["Payload"] = json.dumps(result).encode()
        return answer


def _client_context(encoded: str | None) -> ClientContext | None:
    if not encoded:
        return None
    try:
        given = json.loads(base64.b64decode(encoded))
    except ValueError:
        raise ServiceError("InvalidRequestContentException", "Could not parse the client context") from None
    return ClientContext(given.get("custom", {}) if isinstance(given, dict) else {})
