"""Calls to a third party for the tenant: an issue tracker as the sample, in the tenant's own workspace.

What a call is made with is the tenant's own, too. It goes into a header of the request and nowhere else: not to the
model, into a log, an event or an error.
"""

import json
import logging
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlsplit

from saas_agent.errors import DENIED, INTERNAL, ConfigurationError, Reason, Refused
from saas_agent.tenancy.access import TenantAccess

Answer = TypeVar("Answer")
Issues = list[dict[str, str]]

logger = logging.getLogger(__name__)

NOT_CONNECTED = Reason(
    "not_connected", 409, "The issue tracker is not connected for this company; its administrator has to ask for it."
)

_SECONDS = 20.0
_LARGEST_ANSWER = 1024 * 1024
_LOOPBACK = frozenset({"127.0.0.1", "localhost"})
# What a header takes: a line end in a key would begin another header.
_CREDENTIAL = re.compile(r"[\x21-\x7e]{1,4096}")


def valid_credential(text: object) -> bool:
    """True for what can be sent as a key or a token."""
    return isinstance(text, str) and _CREDENTIAL.fullmatch(text) is not None


class Credential(Protocol):
    """What a call to the third party is made with."""

    def headers(self) -> Mapping[str, str]:
        """The headers that carry it. Refused with not_connected where the tenant has none, or denied."""

    def renewed(self) -> bool:
        """Forgets a credential that the third party doesn't take any more; whether another can be had."""


@dataclass(frozen=True)
class Where:
    """What the stack says of the third party: whose credentials these are, and the third party's address.

    owner: service and stage, and the tenant where the credentials are in its own stack's keeping.
    """

    owner: tuple[str, ...]
    url: str

    @classmethod
    def parse(cls, text: str) -> "Where":
        """`<service>/<stage>[/<tenant>]|<url>`; ConfigurationError unless a credential may go there."""
        owner, _, url = text.partition("|")
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
            raise ConfigurationError("OUTBOUND names no https address; deploy the platform stack, which puts it there")
        found = tuple(owner.split("/"))
        if len(found) not in (2, 3) or not all(found):
            raise ConfigurationError("OUTBOUND names no service and stage; deploy the platform stack, which does")
        return cls(found, url)


class IssueTracker:
    """The tenant's own workspace at the issue tracker, which is named like the tenant.

    Raises Refused: not_connected, denied where the tracker doesn't take the credential for this workspace, internal.
    url: where the tracker is.
    """

    def __init__(self, access: TenantAccess, where: Where, credential: Credential) -> None:
        self._tenant = access.tenant
        self.url = where.url
        self._issues = f"{where.url}/workspaces/{quote(access.tenant.tenant_id, safe='')}/issues"
        self._credential = credential

    def open(self, title: str) -> str:
        """Opens an issue; its id."""
        return self._ask("POST", lambda answer: str(answer["id"]), {"title": title})

    def list(self) -> Issues:
        """The workspace's issues, the latest first: id, title and who opened each."""

        def read(answer: Any) -> Issues:
            return [{name: str(issue[name]) for name in ("id", "title", "opened_by")} for issue in answer["issues"]]

        return self._ask("GET", read)

    def _ask(self, method: str, read: Callable[[Any], Answer], content: Mapping[str, str] | None = None) -> Answer:
        body = None if content is None else json.dumps(content).encode()
        try:
            try:
                return read(self._send(method, body))
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != 401 or not self._credential.renewed():
                    raise
            return read(self._send(method, body))
        except urllib.error.HTTPError as error:
            status = error.code
            error.close()
        except (OSError, ValueError, LookupError, TypeError) as error:
            # No message: what went wrong may quote what was sent.
            logger.error("third_party_error tenant=%s kind=%s", self._tenant.tenant_id, type(error).__name__)
            raise Refused(INTERNAL, f"the third party: {type(error).__name__}") from None
        logger.error("third_party_error tenant=%s status=%d", self._tenant.tenant_id, status)
        raise Refused(DENIED if status in (401, 403) else INTERNAL, f"the third party: {status}")

    def _send(self, method: str, body: bytes | None) -> Any:
        headers = {"Content-Type": "application/json", **self._credential.headers()}
        request = urllib.request.Request(self._issues, body, headers, method=method)
        with _OPENER.open(request, timeout=_SECONDS) as answer:
            return json.loads(answer.read(_LARGEST_ANSWER))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the credential to another address."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
