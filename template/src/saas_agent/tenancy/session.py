"""Session ids, bound to the caller.

AgentCore doesn't bind a session id to a user or a tenant ("Enforce session-to-user mappings in your backend", its
security guide): two callers who present the same id share one microVM. So an id carries its owner's hash.
"""

import hashlib
import hmac
import re
import uuid

from saas_agent.errors import SESSION_NOT_YOURS, Refused
from saas_agent.tenancy.tenant import TenantContext

_SESSION_ID = re.compile(r"[0-9a-f]{24}-[0-9a-f]{32}")


def new_session_id(tenant_id: str, subject: str) -> str:
    """A session id of this user: 57 characters, as the runtime (33 to 256) and memory (at most 100) both take it."""
    return f"{_owner(tenant_id, subject)}-{uuid.uuid4().hex}"


def require_own(session_id: str | None, tenant: TenantContext) -> str:
    """The session id, if it is one of the caller's; Refused with session_not_yours otherwise."""
    owner = _owner(tenant.tenant_id, tenant.subject)
    if session_id is None or not _SESSION_ID.fullmatch(session_id) or not hmac.compare_digest(session_id[:24], owner):
        raise Refused(SESSION_NOT_YOURS, "the session id doesn't carry the caller's hash")
    return session_id


def _owner(tenant_id: str, subject: str) -> str:
    return hashlib.sha256(f"{tenant_id}|{subject}".encode()).hexdigest()[:24]
