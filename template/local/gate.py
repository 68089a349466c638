"""The one door: a WSGI application in front of moto that authenticates and judges every call."""

import gzip
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from typing import Any

from moto.core.request import Request
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer
from werkzeug.wrappers import Response

from . import operations, server, signature
from .authorization import Authorizer, Credentials, Decision, DecisionLog, Principal, Sessions
from .operations import Call, Handler, Operation, ServiceError
from .server import WsgiApp
from .signature import Fault, SignatureError, SignedRequest

_LOOPBACK = re.compile(r"(?:127\.0\.0\.1|localhost)(?::\d+)?")
_ANONYMOUS = Principal(arn="anonymous", kind="anonymous")
_UNSIGNED_SERVICES = {"AWSCognitoIdentityProviderService": "cognito-idp"}
# What moto would take a Region, an account or a service from.
_HINTS = (
    "HTTP_AUTHORIZATION",
    "HTTP_TRANSFER_ENCODING",
    "HTTP_USER_AGENT",
    "HTTP_X_MOTO_ACCOUNT_ID",
)
_LARGEST_BODY = 64 * 1024 * 1024
_LONGEST_KEY = 1024  # bytes; moto takes any


SignedApp = Callable[[Request, Principal], WsgiApp]
"""Answers a request of an authenticated principal."""


@dataclass(frozen=True)
class _Own:
    """An operation that is answered here."""

    handler: Handler
    judges_itself: bool


class _Moto(DomainDispatcherApplication):
    """moto's server, without looking through moto's folders for every request."""

    def __init__(self, create_app: Any) -> None:
        super().__init__(create_app)
        self._backends = cache(super().get_backend_for_host)

    def get_backend_for_host(self, host: str | None) -> Any:
        """Which of moto's services a host name stands for."""
        return self._backends(host)


class Gate:
    """WSGI application: own operations and routes first, everything else goes to moto.

    `sessions`, `authorizer` and `decisions` are public for those who issue, judge and read.
    """

    def __init__(self, *, account: str, region: str, operator: Credentials, decisions: DecisionLog) -> None:
        self.account = account
        self.region = region
        self.decisions = decisions
        self.sessions = Sessions(account)
        self.authorizer = Authorizer(account, decisions)
        self._operator = operator
        self._operator_principal = Principal(
            arn=f"arn:aws:iam::{account}:user/operator",
            kind="operator",
            access_key_id=operator.access_key_id,
        )
        self._own: dict[tuple[str, str], _Own] = {}
        self._signed: dict[str, SignedApp] = {}
        self._routes: dict[str, WsgiApp] = {}
        self._moto = _Moto(create_backend_app)

    def handle(self, service: str, operation: str, handler: Handler, *, judges_itself: bool = False) -> None:
        """Answer `operation` of `service` (botocore's names) with `handler` instead of moto.

        Args:
            judges_itself: the handler decides who may call it and records that.

        Raises:
            ValueError: the service has no such operation.
        """
        if operations.find_operation(service, operation) is None:
            raise ValueError(f"{service} has no operation {operation}: use botocore's names")
        self._own[service, operation] = _Own(handler, judges_itself)

    def handle_signed(self, service: str, app: SignedApp) -> None:
        """Give every request that is signed for `service`, and whose signature holds, to `app`, which judges it."""
        self._signed[service] = app

    def route(self, prefix: str, app: WsgiApp) -> None:
        """Give every request without an AWS signature whose path starts with `prefix` to `app`."""
        self._routes[prefix] = app

    def server(self, port: int = 0) -> BaseWSGIServer:
        """A threaded HTTP/1.1 server of this gate on 127.0.0.1; 0 picks a free port (`.port`)."""
        return server.serve(self, port)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        signed = _signed_part(request)
        if signature.is_signed(signed):
            answer = self._answer_signed(request, signed)
        else:
            route = self._route_of(request.path)
            answer = route if route is not None else self._answer_unsigned(request)
        return answer(environ, start_response)

    def _route_of(self, path: str) -> WsgiApp | None:
        matching = [prefix for prefix in self._routes if path.startswith(prefix)]
        return self._routes[max(matching, key=len)] if matching else None

    # --- Signed calls -----------------------------------------------------------------------------

    def _answer_signed(self, request: Request, signed: SignedRequest) -> WsgiApp:
        try:
            claim = signature.read(signed)
        except SignatureError as error:
            self._record_fault(_ANONYMOUS, "unknown:unknown", error.fault)
            return _refuse_authentication("json", error.fault)
        # Not one of botocore's services: to look for it there takes longer than to answer.
        protocol = "rest-json" if claim.service in self._signed else operations.protocol_of(claim.service)
        try:
            principal = self._authenticate(signed, claim)
        except SignatureError as error:
            principal = Principal(arn=_key_name(claim.access_key_id), kind="anonymous")
            self._record_fault(principal, f"{claim.service}:unknown", error.fault)
            return _refuse_authentication(protocol, error.fault)
        try:
            _normalize(request, claim)
            if claim.service in self._signed:
                return self._signed[claim.service](request, principal)
            return self._answer_authenticated(request, claim, principal)
        except ServiceError as error:
            if principal.kind == "role":
                self.authorizer.deny(principal, f"{claim.service}:unknown", error.message)
            return operations.refuse(protocol, error)

    def _authenticate(self, signed: SignedRequest, claim: signature.Signature) -> Principal:
        if claim.access_key_id == self._operator.access_key_id:
            operator = self._operator
            signature.verify(signed, claim, operator.secret_access_key, operator.session_token)
            return self._operator_principal
        session = self.sessions.find(claim.access_key_id)
        if session is None:
            raise SignatureError(Fault.UNKNOWN_KEY)
        credentials = session.credentials
        signature.verify(signed, claim, credentials.secret_access_key, credentials.session_token)
        if datetime.now(UTC) >= session.expires:
            raise SignatureError(Fault.EXPIRED_TOKEN)
        return session.principal

    def _answer_authenticated(self, request: Request, claim: signature.Signature, principal: Principal) -> WsgiApp:
        """Role sessions are judged; what can't be understood is refused. The operator is not."""
        try:
            operation = operations.resolve(request, claim.service)
        except ServiceError:
            if principal.kind == "operator":
                return self._moto
            raise
        own = self._own.get((operation.service, operation.name))
        if own is None and principal.kind == "operator":
            return self._moto
        try:
            call = _call(operation, request, principal, claim.region)
        except ServiceError as error:
            if principal.kind == "role":
                action = f"{operation.service}:{operation.name}"
                self.authorizer.deny(principal, action, error.message)
            return operations.refuse(operation.protocol, error)
        if principal.kind == "role" and not (own is not None and own.judges_itself):
            decision = self.authorizer.judge(call)
            if not decision.allowed:
                return operations.refuse(operation.protocol, _denied(operation.protocol, decision))
        if operation.service == "s3" and len((call.params.get("Key") or "").encode()) > _LONGEST_KEY:
            return operations.refuse(operation.protocol, ServiceError("KeyTooLongError", "Your key is too long"))
        return self._moto if own is None else _run(own.handler, operation, call)

    # --- Unsigned calls ---------------------------------------------------------------------------

    def _answer_unsigned(self, request: Request) -> WsgiApp:
        """The operations that AWS lets anybody call, and nothing else."""
        _normalize_unsigned(request, self.region)
        service = _unsigned_service(request)
        try:
            _check_host(request)
            operation = operations.resolve(request, service) if service else None
        except ServiceError:
            operation = None
        if operation is None or not _is_public(operation):
            self._record_fault(_ANONYMOUS, f"{service or 'unknown'}:unknown", Fault.MISSING)
            return _refuse_authentication("query" if service == "sts" else "json", Fault.MISSING)
        own = self._own.get((operation.service, operation.name))
        if own is None:
            return self._moto
        try:
            call = _call(operation, request, _ANONYMOUS, self.region)
        except ServiceError as error:
            return operations.refuse(operation.protocol, error)
        return _run(own.handler, operation, call)

    def _record_fault(self, principal: Principal, action: str, fault: Fault) -> None:
        self.authorizer.deny(principal, action, fault.value, source="signature")


def _call(operation: Operation, request: Request, principal: Principal, region: str) -> Call:
    params = operations.parse(operation, request)
    return Call(operation.service, operation.name, params, principal, request, region)


def _run(handler: Handler, operation: Operation, call: Call) -> WsgiApp:
    try:
        result = handler(call)
    except ServiceError as error:
        return operations.refuse(operation.protocol, error)
    return result if isinstance(result, Response) else operations.respond(operation, result)


def _is_public(operation: Operation) -> bool:
    """Whether AWS takes the operation unsigned: the service models say so, of two services."""
    public = operation.service == "cognito-idp" or (
        operation.service == "sts" and operation.name == "AssumeRoleWithWebIdentity"
    )
    return public and operation.model.auth_type == "none"


def _unsigned_service(request: Request) -> str | None:
    target = request.headers.get("X-Amz-Target", "").partition(".")[0]
    if target:
        return _UNSIGNED_SERVICES.get(target)
    return "sts" if request.form.get("Action") == "AssumeRoleWithWebIdentity" else None


# --- Requests -------------------------------------------------------------------------------------


def _signed_part(request: Request) -> SignedRequest:
    return SignedRequest(
        method=request.method,
        path=request.raw_path,
        query=request.environ.get("QUERY_STRING", ""),
        headers={name.lower(): value for name, value in request.headers},
        body=_read_body(request),
    )


def _read_body(request: Request) -> bytes:
    """The body, left in place for whoever reads the request next."""
    body = request.get_data(cache=True, parse_form_data=False)
    request.environ["wsgi.input"] = BytesIO(body)
    return body


def _normalize(request: Request, claim: signature.Signature) -> None:
    """Leave moto nothing to guess from: it must see what was verified, of this service and Region.

    moto finds service and account by the first of many hints, of which some are not signed.
    """
    _check_host(request)
    environ = request.environ
    if claim.presigned_seconds is not None and claim.service != "s3":
        raise ServiceError("AccessDenied", "Presigned links are taken for S3 alone.", 403)
    for name in _HINTS:
        environ.pop(name, None)
    query = signature.without_signature(environ.get("QUERY_STRING", ""))
    if claim.presigned_seconds is not None:
        environ["QUERY_STRING"] = query
        environ["RAW_URI"] = environ["REQUEST_URI"] = request.raw_path + (query and f"?{query}")
    environ["HTTP_AUTHORIZATION"] = (
        f"{signature.ALGORITHM} Credential={claim.access_key_id}/{claim.date}/{claim.region}"
        f"/{claim.service}/aws4_request, SignedHeaders=host, Signature=verified"
    )
    if claim.service != "s3" and request.content_encoding == "gzip":
        _decompress(request)
    _drop_cached(request)


def _normalize_unsigned(request: Request, region: str) -> None:
    """The same for a call without a signature: nothing that it says of itself may count."""
    for name in _HINTS:
        request.environ.pop(name, None)
    request.environ["HTTP_USER_AGENT"] = f"region/{region}"


def _check_host(request: Request) -> None:
    # moto takes a bucket, a Region or a service from any other host name.
    if not _LOOPBACK.fullmatch(request.host):
        raise ServiceError("InvalidRequest", "The host must be the local endpoint, with buckets in the path.")


def _decompress(request: Request) -> None:
    try:
        with gzip.GzipFile(fileobj=BytesIO(_read_body(request))) as stream:
            body = stream.read(_LARGEST_BODY + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ServiceError("SerializationException", "The gzip body can't be read.") from error
    if len(body) > _LARGEST_BODY:
        raise ServiceError("RequestEntityTooLarge", "The body is larger than 64 MiB.", 413)
    request.environ.pop("HTTP_CONTENT_ENCODING")
    request.environ["wsgi.input"] = BytesIO(body)
    request.environ["CONTENT_LENGTH"] = str(len(body))


def _drop_cached(request: Request) -> None:
    """Forget what werkzeug read from the request before it was changed."""
    for name in ("args", "form", "values", "_cached_data", "query_string", "stream"):
        request.__dict__.pop(name, None)
    request.query_string = request.environ.get("QUERY_STRING", "").encode("latin1")
    _read_body(request)


# --- Refusals -------------------------------------------------------------------------------------

# Fault -> code in JSON protocols, in the query protocol, in S3.
_CODES: dict[Fault, tuple[str, str, str]] = {
    Fault.MISSING: (
        "MissingAuthenticationTokenException",
        "MissingAuthenticationToken",
        "AccessDenied",
    ),
    Fault.INCOMPLETE: (
        "IncompleteSignatureException",
        "IncompleteSignature",
        "AuthorizationHeaderMalformed",
    ),
    Fault.UNKNOWN_KEY: (
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
    ),
    Fault.BAD_TOKEN: ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidToken"),
    Fault.EXPIRED_TOKEN: ("ExpiredTokenException", "ExpiredToken", "ExpiredToken"),
    Fault.EXPIRED_LINK: ("ExpiredTokenException", "ExpiredToken", "AccessDenied"),
    Fault.SKEWED: ("InvalidSignatureException", "SignatureDoesNotMatch", "RequestTimeTooSkewed"),
    Fault.MISMATCH: ("InvalidSignatureException", "SignatureDoesNotMatch", "SignatureDoesNotMatch"),
    Fault.PAYLOAD: (
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "XAmzContentSHA256Mismatch",
    ),
    Fault.UNSUPPORTED: ("InvalidSignatureException", "SignatureDoesNotMatch", "NotImplemented"),
}


def _refuse_authentication(protocol: str, fault: Fault) -> WsgiApp:
    json_code, query_code, s3_code = _CODES[fault]
    code = {"rest-xml": s3_code, "query": query_code, "ec2": query_code}.get(protocol, json_code)
    return operations.refuse(protocol, ServiceError(code, f"Refused: {fault.value}.", 403))


def _denied(protocol: str, decision: Decision) -> ServiceError:
    message = (
        f"User: {decision.principal} is not authorized to perform: {decision.action}"
        f" on resource: {decision.resource} ({decision.reason})"
    )
    xml = protocol in ("rest-xml", "query", "ec2")
    # The JSON protocol answers every error of the caller's with 400.
    status = 400 if protocol == "json" else 403
    return ServiceError("AccessDenied" if xml else "AccessDeniedException", message, status)


def _key_name(access_key_id: str) -> str:
    """An access key id for the record, unless what was sent as one is something else."""
    named = re.fullmatch("[A-Z0-9]{16,32}", access_key_id)
    return f"access key {access_key_id}" if named else "access key unknown"
