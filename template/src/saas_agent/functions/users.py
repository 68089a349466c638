"""What a tenant's administrators may do with its users: list, invite and remove them.

    GET /users?next=...      -> {"users": [{"id", "email", "status", "administrator"}], "next": ... or null}
    POST /users              {"email", "administrator"?} -> the user
    DELETE /users/{id}       -> {"removed": id}

The tenant is that of the verified token and of nothing else: there is no field for it, and nobody can set or change it.
Whoever calls must be in the administrators' group now, not only when the token was issued. A user of another tenant is
not told apart from one that doesn't exist.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.registry import TenantRecord
from saas_agent.control_plane.states import SERVED
from saas_agent.control_plane.users import ADMINISTRATORS, User, Users, email_address
from saas_agent.errors import INTERNAL, INVALID_TOKEN, TENANT_NOT_ACTIVE, Reason, Refused
from saas_agent.tenancy.tenant import SUBJECT
from saas_agent.tenancy.token import VerifiedToken, bearer

Handler = Callable[[dict[str, Any], object], dict[str, Any]]

NOT_ADMINISTRATOR = Reason("not_administrator", 403, "Only administrators of your tenant may do this.")
MALFORMED = Reason("invalid_request", 400, 'Expected {"email": "..."}, with "administrator" true or false, or without.')
NOT_FOUND = Reason("not_found", 404, "Your tenant has no such user.")
NOT_YOURSELF = Reason("not_yourself", 409, "You can't remove yourself; ask another administrator.")
ADDRESS_TAKEN = Reason("address_taken", 409, "This address can't be invited; choose another.")

_PAGE = 20  # as many users are enough for one answer
_LOOK_SECONDS = 5.0  # and after so long there is an answer, even if fewer were found
_LONGEST_BODY = 2048

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Desk:
    """What one request works with. username: the caller's name in the pool of `users`.

    forget: what else has to go when a user was removed.
    """

    caller: VerifiedToken
    username: str
    users: Users
    forget: Callable[[User], None]

    @property
    def tenant_id(self) -> str:
        """The tenant of the caller, and so of everybody whom the request may touch."""
        return self.caller.tenant.tenant_id


Open = Callable[[str], Desk]
"""A bearer token -> what its request works with. Raises Refused."""


def users_handler(open_desk: Open, clock: Callable[[], float] = time.monotonic) -> Handler:
    """The handler of API Gateway's proxy events. Who is invited gets a temporary password by mail."""

    def handle(event: dict[str, Any], _context: object) -> dict[str, Any]:
        try:
            desk = open_desk(bearer(event.get("headers")))
            _require_administrator(desk)
            match event.get("httpMethod"), event.get("resource"):
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


def _require_administrator(desk: Desk) -> None:
    if ADMINISTRATORS not in desk.caller.groups:
        raise Refused(NOT_ADMINISTRATOR, "the token is not of an administrator")
    user = desk.users.find(desk.username) if desk.username else None
    if user is None or not user.enabled or user.tenant_id != desk.tenant_id:
        raise Refused(INVALID_TOKEN, "the caller is not a user of the tenant any more")
    if ADMINISTRATORS not in desk.users.groups(user):
        raise Refused(NOT_ADMINISTRATOR, "the caller is not an administrator any more")


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
    logger.info("invited tenant=%s by=%s user=%s", desk.tenant_id, desk.username, user.username)
    return _shown(desk, user)


def _invitation(body: object) -> tuple[str, bool]:
    if not isinstance(body, str) or len(body) > _LONGEST_BODY:
        raise Refused(MALFORMED, "there is no body, or it is too long")
    try:
        document = json.loads(body)
    except ValueError:
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
    if name == desk.username:
        raise Refused(NOT_YOURSELF, "the caller would remove itself")
    user = desk.users.remove(desk.tenant_id, name)
    if user is None:
        raise Refused(NOT_FOUND, "the tenant has no such user")
    desk.forget(user)
    logger.info("removed tenant=%s by=%s user=%s", desk.tenant_id, desk.username, user.username)
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
