"""What a request does its work with: the tenant and AWS credentials that are good for this tenant alone."""

import copy
import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.hooks import HierarchicalEmitter

from saas_agent.errors import DENIED, INTERNAL, Refused
from saas_agent.tenancy.tenant import TenantContext

logger = logging.getLogger(__name__)

# For every session: the loader caches the service models, which are what makes a session's first client slow; and to
# register botocore's own handlers anew takes longer than all else that a session does.
_LOADER = botocore.loaders.create_loader()
_HANDLERS = HierarchicalEmitter()
botocore.session.Session(event_hooks=_HANDLERS)
_CONFIG = Config(read_timeout=120, retries={"mode": "standard", "total_max_attempts": 3})
# Without this, boto3 signs links in the older way, which encrypted buckets and newer Regions refuse.
_CONFIGS = {"s3": _CONFIG.merge(Config(signature_version="s3v4"))}

_DENIALS = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "ExpiredToken", "403"})


@dataclass(frozen=True)
class TemporaryCredentials:
    """Credentials that STS issued for one tenant; kept out of every repr. `expiration` is timezone-aware."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expiration: datetime

    @classmethod
    def from_sts(cls, answer: dict[str, Any]) -> "TemporaryCredentials":
        """From the `Credentials` of an STS answer."""
        return cls(
            answer["AccessKeyId"],
            answer["SecretAccessKey"],
            answer["SessionToken"],
            answer["Expiration"],
        )


def core_session() -> botocore.session.Session:
    """A botocore session without credentials, in a fifteenth of the time that `botocore.session.Session()` takes."""
    core = botocore.session.Session(event_hooks=copy.copy(_HANDLERS), include_builtin_handlers=False)
    core.register_component("data_loader", _LOADER)
    return core


class TenantSession(boto3.Session):  # type: ignore[misc]  # boto3 ships no types
    """A boto3 session that makes one client a service and keeps it.

    A request builds its doors anew, and so do the libraries it calls; each new client costs 5 ms and more. Callers' own
    client settings (user agents, timeouts) give way to the ones above.
    """

    def __init__(self, credentials: TemporaryCredentials, region: str) -> None:
        super().__init__(
            aws_access_key_id=credentials.access_key_id,
            aws_secret_access_key=credentials.secret_access_key,
            aws_session_token=credentials.session_token,
            region_name=region,
            botocore_session=core_session(),
        )
        self._clients: dict[str, Any] = {}
        self._clients_lock = threading.Lock()

    def client(self, service_name: str, *_: Any, **__: Any) -> Any:
        """The session's client of this service."""
        with self._clients_lock:
            if service_name not in self._clients:
                self._clients[service_name] = super().client(service_name, config=_CONFIGS.get(service_name, _CONFIG))
            return self._clients[service_name]

    def retrieval(self, _name: str) -> AbstractContextManager[None]:
        """Around a retrieval that a function makes for the tenant. A metered session counts it by this name."""
        return nullcontext()


@dataclass(frozen=True)
class TenantAccess:
    """The tenant together with its credentials. Every door is built from one of these; nothing else names a tenant.

    token: the caller's access token, for functions of the platform that verify it themselves; empty, and so refused by
    them, where it isn't at hand. id_token: the caller's ID token, where STS is shown that; otherwise empty.
    """

    tenant: TenantContext
    session: TenantSession = field(repr=False)
    token: str = field(default="", repr=False)
    id_token: str = field(default="", repr=False)

    def client(self, service: str) -> Any:
        """A boto3 client that acts as this tenant."""
        return self.session.client(service)


@contextmanager
def seen_when_denied(operation: str, tenant: TenantContext) -> Iterator[None]:
    """Turns an AWS error into Refused, so that a denial is an error that is seen and tells no names to the model.

    The log line `access_denied` is worth an alarm: in a healthy deployment a tenant's own calls are never denied.
    """
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "Unknown"))
        if code in _DENIALS:
            logger.error("access_denied operation=%s tenant=%s code=%s", operation, tenant.tenant_id, code)
            raise Refused(DENIED, f"{operation}: {code}") from None
        logger.error("aws_error operation=%s tenant=%s code=%s", operation, tenant.tenant_id, code)
        raise Refused(INTERNAL, f"{operation}: {code}") from None
    except BotoCoreError as error:
        logger.error(
            "aws_error operation=%s tenant=%s code=%s",
            operation,
            tenant.tenant_id,
            type(error).__name__,
        )
        raise Refused(INTERNAL, f"{operation}: {type(error).__name__}") from None
