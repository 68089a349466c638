"""What goes wrong, in two kinds: a deployment that must not start, and a request that is refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


class ConfigurationError(Exception):
    """The process is not configured so that tenants are isolated: it must not start."""


@dataclass(frozen=True)
class Reason:
    """A refusal as the caller sees it: a stable code, an HTTP status and a sentence that gives nothing away.

    told: further members of the answer's error.
    """

    code: str
    status: int
    message: str
    told: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def error(self) -> dict[str, str]:
        """The answer's error."""
        return {"code": self.code, "message": self.message, **self.told}


INVALID_TOKEN = Reason("invalid_token", 401, "The access token is missing or not valid; sign in again.")
TOKEN_EXPIRED = Reason("token_expired", 401, "The access token has expired; sign in again and repeat the request.")
NO_TENANT = Reason("no_tenant", 403, "The access token names no valid tenant; ask your administrator.")
TENANT_NOT_ACTIVE = Reason("tenant_not_active", 403, "This tenant is not active; ask your administrator.")
SESSION_NOT_YOURS = Reason("session_not_yours", 403, "The session id is not one of yours; start a new session.")
INVALID_REQUEST = Reason("invalid_request", 400, 'Expected a JSON object such as {"prompt": "..."} with a text prompt.')
NOT_HERE = Reason("not_here", 403, "This tenant is not served here; look its address up again.")
LIMIT_REACHED = Reason(
    "limit_reached",
    429,
    "A limit of your tier was reached; shorten the request or move to a higher tier.",
)
DENIED = Reason("denied", 403, "Access to this resource is denied.")
INTERNAL = Reason("internal", 500, "Something went wrong; try again, and quote the request id if it persists.")

_QUOTAS = {
    "tokens_per_day": "tokens a day",
    "tokens_per_month": "tokens a month",
    "requests_per_minute": "requests a minute",
    "concurrent_sessions": "sessions at a time",
}


def limit_reached(name: str, limit: int, resets_at: datetime) -> Reason:
    """Which limit of the tier is used up, and until when. name: its key in tiers.toml. resets_at: in UTC."""
    at = f"{resets_at:%Y-%m-%dT%H:%M:%SZ}"
    message = f"Your tier allows {limit:,} {_QUOTAS[name]}, and that is used up; try again after {at}."
    return Reason(LIMIT_REACHED.code, LIMIT_REACHED.status, message, {"limit": name, "resets_at": at})


class Refused(Exception):
    """A request that is refused.

    `reason` goes to the caller, and its message is the exception's text: a tool's error reaches the model. `detail`
    stays in the platform's log, so it must never hold a token or a credential.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason.message)
        self.reason = reason
        self.detail = detail
