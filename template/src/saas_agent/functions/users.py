"""What a tenant's administrators may do with its users, and operators for them: list, invite and remove them.

    GET /users?next=...      -> {"users": [{"id", "email", "status", "administrator"}], "next": ... or null}
    POST /users              {"email", "administrator"?} -> the user
    DELETE /users/{id}       -> {"removed": id}

The tenant is that of the verified token and of nothing else: there is no field for it, and nobody can set or change it.
Whoever calls must be in the administrators' group now, not only when the token was issued. A user of another tenant is
not told apart from one that doesn't exist.

The same below `/tenants/{tenant_id}` is for operators, whom API Gateway has authenticated and authorized by IAM. They
name the tenant, and may help one that has no administrator any more.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.registry import Registry, TenantRecord
from saas_agent.control_plane.states import SERVED, Status
from saas_agent.control_plane.users import ADMINISTRATORS, User, Users, email_address
from saas_agent.errors import INTERNAL, INVALID_TOKEN, TENANT_NOT_ACTIVE, Reason, Refused
from saas_agent.tenancy.tenant import SUBJECT, valid_tenant_id
from saas_agent.tenancy.token import VerifiedToken, bearer

Handler = Callable[[dict[str, Any], object], dict[str, Any]]

NOT_ADMINISTRATOR = Reason("not_administrator", 403, "Only administrators of your tenant may do this.")
MALFORMED = Reason("invalid_request", 400, 'Expected {"email": "..."}, with "administrator" true or false, or without.')
NOT_FOUND = Reason("not_found", 404, "Your tenant has no such user.")
NOT_YOURSELF = Reason("not_yourself", 409, "You can't remove yourself; ask another administrator.")
ADDRESS_TAKEN = Reason("address_taken", 409, "This address can't be invited; choose another.")

_OPERATORS = "/tenants/{tenant_id}"

_PAGE = 20  # as many users are enough for one answer
_LOOK_SECONDS = 5.0  # and after so long there is an answer, even if fewer were found
_LONGEST_BODY = 2048

logger = logging.getLogger(__name__)
# Lambda's own level is WARNING.
logger.setLevel(logging.INFO)


@dataclass(frozen=True)
class Desk:
    """What one request works with.

    tenant_id: the tenant of the caller, or the one that an operator named, and so of everybody whom the request may
    touch. by: who calls, for the log; a tenant's user by its name in the pool of `users`. forget: what else has to go
    when a user was removed.
    """

    tenant_id: str
    by: str
    users: Users
    forget: Callable[[User], None]


class Desks(Protocol):
    """Opens what a request works with. Both raise Refused."""

    def for_user(self, raw: str) -> tuple[Desk, VerifiedToken]:
        """For whoever has this bearer token, which is verified; whether an administrator is not looked at."""

    def for_operator(self, tenant_id: str, operator: str) -> Desk:
        """For an operator, by the ARN that IAM authenticated, on this tenant."""


def users_handler(desks: Desks, clock: Callable[[], float] = time.monotonic) -> Handler:
    """The handler of API Gateway's proxy events. Who is invited gets a temporary password by mail."""

    def handle(event: dict[str, Any], _context: object) -> dict[str, Any]:
        try:
            resource = str(event.get("resource"))
            desk = _operators_desk(desks, event) if resource.startswith(_OPERATORS) else _users_desk(desks, event)
            match event.get("httpMethod"), resource.removeprefix(_OPERATORS):
                case "GET", "/users":
                    return _answer(200, _list(desk, event.get("queryStringParameters") or {}, clock))
                case "POST", "/users":
                    return _answer(200, _invite(desk, event.get("body")))
                case "DELETE", "/users/{id}":
                    return _answer(200, _remove(desk, (event.get("pathParameters") or {}).get("id")))
            raise Refused(MALFORMED, "no such route")
        except Refused as refused:
            logger.warning("refused code=%s detail=%s", refused.reason.code, refused.detail)
            return _error(refused.reason)
        except (ClientError, BotoCoreError, ControlPlaneError) as error:
            code = error.response["Error"].get("Code") if isinstance(error, ClientError) else type(error).__name__
            logger.error("failed kind=%s", code)
            return _error(INTERNAL)

    return handle


def require_active(record: TenantRecord | None) -> None:
    """Refused with tenant_not_active unless the registry has the tenant as ACTIVE now."""
    if record is None or record.status not in SERVED:
        raise Refused(TENANT_NOT_ACTIVE, "the registry has the tenant as not active")


def kept_tenant(registry: Registry, tenant_id: str) -> TenantRecord:
    """The tenant whose users an operator may look after; Refused where there is none, or where it comes or goes.

    Nobody is invited to a tenant that is being offboarded: what looked for its users last would not find them.
    """
    record = registry.get(tenant_id) if valid_tenant_id(tenant_id) else None
    if record is None:
        message = f"there is no tenant {tenant_id}; expected one of `tenants list`; onboard it first"
        raise Refused(Reason("NotFound", 404, message), "an operator named a tenant that there is not")
    if record.status not in SERVED and record.status is not Status.SUSPENDED:
        message = (
            f"tenant {tenant_id} is {record.status}; its users can be looked after while it is ACTIVE or SUSPENDED"
        )
        raise Refused(Reason("Conflict", 409, message), f"an operator named a tenant that is {record.status}")
    return record


def _operators_desk(desks: Desks, event: Mapping[str, Any]) -> Desk:
    # API Gateway sets it where the method asks for IAM authorization, and there alone.
    operator = (event.get("requestContext") or {}).get("identity", {}).get("userArn")
    if not isinstance(operator, str) or not operator:
        raise Refused(INVALID_TOKEN, "no operator was authenticated")
    return desks.for_operator(str((event.get("pathParameters") or {}).get("tenant_id")), operator)


def _users_desk(desks: Desks, event: Mapping[str, Any]) -> Desk:
    desk, caller = desks.for_user(bearer(event.get("headers")))
    if ADMINISTRATORS not in caller.groups:
        raise Refused(NOT_ADMINISTRATOR, "the token is not of an administrator")
    user = desk.users.find(desk.by) if desk.by else None
    if user is None or not user.enabled or user.tenant_id != desk.tenant_id:
        raise Refused(INVALID_TOKEN, "the caller is not a user of the tenant any more")
    if ADMINISTRATORS not in desk.users.groups(user):
        raise Refused(NOT_ADMINISTRATOR, "the caller is not an administrator any more")
    return desk


def _list(desk: Desk, parameters: Mapping[str, str], clock: Callable[[], float]) -> dict[str, Any]:
    began, token, found = clock(), parameters.get("next", ""), list[User]()
    while True:
        page, token = desk.users.page(desk.tenant_id, token)
        found += page
        if not token or len(found) >= _PAGE or clock() - began >= _LOOK_SECONDS:
            return {"users": [_shown(desk, user) for user in found], "next": token or None}


def _invite(desk: Desk, body: object) -> dict[str, Any]:
    email, administrator = _invitation(body)
    try:
        user = desk.users.invite(desk.tenant_id, email, administrator=administrator, mail=True)
    except ControlPlaneError:
        raise Refused(ADDRESS_TAKEN, "the address is a user's already, of another tenant") from None
    logger.info("invited tenant=%s by=%s user=%s", desk.tenant_id, desk.by, user.username)
    return _shown(desk, user)


def _invitation(body: object) -> tuple[str, bool]:
    if not isinstance(body, str) or len(body) > _LONGEST_BODY:
        raise Refused(MALFORMED, "there is no body, or it is too long")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(MALFORMED, "the body is no JSON") from None
    # A field that means nothing here may mean something to whoever sent it, such as another tenant.
    if not isinstance(document, dict) or not {"email"} <= document.keys() <= {"email", "administrator"}:
        raise Refused(MALFORMED, "the body has other fields than email and administrator")
    email = email_address(document["email"]) if isinstance(document["email"], str) else None
    administrator = document.get("administrator", False)
    if email is None or not isinstance(administrator, bool):
        raise Refused(MALFORMED, "email is no address, or administrator neither true nor false")
    return email, administrator


def _remove(desk: Desk, name: object) -> dict[str, Any]:
    # A user's name, never an address: it would tell which addresses are in use.
    if not isinstance(name, str) or SUBJECT.fullmatch(name) is None:
        raise Refused(NOT_FOUND, "the id is malformed")
    if name == desk.by:
        raise Refused(NOT_YOURSELF, "the caller would remove itself")
    user = desk.users.remove(desk.tenant_id, name)
    if user is None:
        raise Refused(NOT_FOUND, "the tenant has no such user")
    desk.forget(user)
    logger.info("removed tenant=%s by=%s user=%s", desk.tenant_id, desk.by, user.username)
    return {"removed": user.username}


def _shown(desk: Desk, user: User) -> dict[str, Any]:
    return {
        "id": user.username,
        "email": user.email,
        "status": user.status if user.enabled else "DISABLED",
        "administrator": ADMINISTRATORS in desk.users.groups(user),
    }


def _answer(status: int, document: Mapping[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(document)}


def _error(reason: Reason) -> dict[str, Any]:
    return _answer(reason.status, {"error": {"code": reason.code, "message": reason.message}})
