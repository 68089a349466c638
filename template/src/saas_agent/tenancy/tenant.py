"""The tenant: its id, and who acts for it in one request."""

import hashlib
import re
from dataclasses import dataclass

# Safe in every place it enters: session tags, partition keys, prefixes, actor ids, namespaces, resource names.
# ":", "/" and "#" can't occur in it, so they separate safely; "-" can, so it never separates.
TENANT_ID = re.compile(r"[a-z0-9][a-z0-9-]{1,30}[a-z0-9]")
TENANT_ID_RULE = "3 to 32 lower-case letters, digits and hyphens, with no hyphen at either end"

# What AgentCore Memory takes behind the separator of an actor id (botocore, `ActorId`); a Cognito `sub` is a UUID.
SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def valid_tenant_id(text: object) -> bool:
    """True for a text that is a tenant id as a whole; anything else, of any type, is not."""
    return isinstance(text, str) and TENANT_ID.fullmatch(text) is not None


@dataclass(frozen=True)
class TenantContext:
    """Who is calling, taken from a verified token and from nowhere else.

    tenant_id: see `TENANT_ID`. tier: a key of `tiers.toml`. subject: the user's id at the identity provider, never
    an e-mail address. expires_at: when the token expires, in epoch seconds.
    """

    tenant_id: str
    tier: str
    subject: str
    expires_at: int

    def __post_init__(self) -> None:
        if not valid_tenant_id(self.tenant_id):
            raise ValueError(f"the tenant id is malformed; expected {TENANT_ID_RULE}")
        if SUBJECT.fullmatch(self.subject) is None:
            raise ValueError("the subject is malformed; expected letters, digits, '-' and '_', at most 128")

    @property
    def actor_id(self) -> str:
        """The AgentCore Memory actor: `tenant:subject`."""
        return f"{self.tenant_id}:{self.subject}"

    @property
    def session_name(self) -> str:
        """The role session's name, as CloudTrail shows it: the tenant, and a hash of the subject."""
        return f"{self.tenant_id}.{hashlib.sha256(self.subject.encode()).hexdigest()[:16]}"
