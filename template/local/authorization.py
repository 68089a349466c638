"""Who is calling and what was decided: principals, sessions, the record of decisions, the judge."""

import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, cast

from moto.iam.models import iam_backends

from .iam import Policy, PolicyError, Request, Verdict, evaluate
from .operations import Call, ServiceError
from .permissions import Permission, needed

TENANT_TAG = "TenantId"
"""Session tag that carries the tenant."""

PrincipalKind = Literal["operator", "role", "anonymous", "service"]
Source = Literal[
    "identity",
    "trust",
    "authorizer",
    "signature",
    "agent",
    "function",
    "documents",
    "interceptor",
    "gateway",
    "policy",
    "third_party",
]

OWNERS = "local:Owners"
"""Where IAM isn't told whose documents a call is about: the tenants, as the documents themselves say; `*` for nobody's.

It stands in decisions of the sources `documents`, `gateway` and `third_party` alone, which no policy ever sees.
"""


@dataclass(frozen=True)
class Credentials:
    """An access key pair, with a session token when it is temporary. Its repr holds no secret."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Principal:
    """Who makes a call.

    arn: IAM ARN (assumed-role ARN for a role session).
    tags: session tags.
    transitive: keys of the session tags that a chained session inherits.
    """

    arn: str
    kind: PrincipalKind
    role_name: str | None = None
    session_name: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    access_key_id: str | None = None
    transitive: frozenset[str] = frozenset()

    @property
    def tenant(self) -> str | None:
        """The tenant of the session's tag, None when the session has none."""
        return self.tags.get(TENANT_TAG)


@dataclass(frozen=True)
class Session:
    """An issued role session: its principal, its credentials, and when it ends (UTC)."""

    principal: Principal
    credentials: Credentials
    expires: datetime


class Sessions:
    """The role sessions that were issued; thread-safe."""

    def __init__(self, account: str) -> None:
        self._account = account
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def issue(
        self,
        role_name: str,
        session_name: str,
        tags: Mapping[str, str] | None = None,
        seconds: int = 3600,
        transitive: frozenset[str] = frozenset(),
    ) -> dict[str, Any]:
        """Credentials of a new session, issued without asking: trust is judged in sts.py.

        Returns:
            AccessKeyId, SecretAccessKey, SessionToken, Expiration (UTC), as STS answers them.
        """
        credentials = Credentials(
            "ASIA" + secrets.token_hex(8).upper(),
            secrets.token_urlsafe(30),
            secrets.token_urlsafe(120),
        )
        principal = Principal(
            arn=f"arn:aws:sts::{self._account}:assumed-role/{role_name}/{session_name}",
            kind="role",
            role_name=role_name,
            session_name=session_name,
            tags=dict(tags or {}),
            access_key_id=credentials.access_key_id,
            transitive=transitive,
        )
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
        with self._lock:
            self._sessions[credentials.access_key_id] = Session(principal, credentials, expires)
        return {
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "SessionToken": credentials.session_token,
            "Expiration": expires,
        }

    def find(self, access_key_id: str) -> Session | None:
        """The session of this access key id, expired or not; None when it was never issued."""
        with self._lock:
            return self._sessions.get(access_key_id)


@dataclass(frozen=True)
class Decision:
    """One judgement: who wanted what on what, in which context, and what came of it and why."""

    number: int
    principal: str
    tenant: str | None
    action: str
    resource: str
    context: dict[str, str | list[str]]
    allowed: bool
    source: Source
    reason: str


class DecisionLog:
    """Every decision of a run, numbered from 1; thread-safe, append only, never truncated."""

    def __init__(self) -> None:
        self._decisions: list[Decision] = []
        self._lock = threading.Lock()

    def append(
        self,
        *,
        principal: str,
        action: str,
        resource: str,
        allowed: bool,
        source: Source,
        reason: str,
        tenant: str | None = None,
        context: Mapping[str, str | list[str]] | None = None,
    ) -> Decision:
        """Record a decision and return it."""
        with self._lock:
            decision = Decision(
                number=len(self._decisions) + 1,
                principal=principal,
                tenant=tenant,
                action=action,
                resource=resource,
                context=dict(context or {}),
                allowed=allowed,
                source=source,
                reason=reason,
            )
            self._decisions.append(decision)
        return decision

    def position(self) -> int:
        """Number of the last decision, 0 before the first."""
        with self._lock:
            return len(self._decisions)

    def since(self, number: int) -> list[Decision]:
        """The decisions after `number`, a former `position()`."""
        with self._lock:
            return self._decisions[number:]


class Authorizer:
    """Judges the calls of role sessions by their roles' policies as moto's IAM holds them now.

    Identity policies and the permissions boundary are evaluated; policies on resources are not.
    """

    def __init__(self, account: str, decisions: DecisionLog) -> None:
        self.account = account
        self.decisions = decisions

    def judge(self, call: Call) -> Decision:
        """Record and return the decision on `call`.

        Of several permissions that it needs the first that is refused decides, else the last.
        """
        try:
            permissions = needed(call, self.account)
        except ServiceError as error:
            return self.deny(call.principal, f"{call.service}:{call.operation}", error.message)
        if not permissions:
            reason = "it names nothing to judge"
            return self.deny(call.principal, f"{call.service}:{call.operation}", reason)
        for permission in permissions:
            decision = self.judge_permission(call.principal, permission, call.region)
            if not decision.allowed:
                break
        return decision

    def judge_permission(self, principal: Principal, permission: Permission, region: str) -> Decision:
        """Record and return the decision on one permission."""
        context = {**principal_context(principal, self.account, region), **permission.context}
        wanted = Permission(permission.action, permission.resource, context)
        verdict, reason = self.identity_verdict(principal, wanted)
        return self.decisions.append(
            principal=principal.arn,
            # Of the session, or of the role itself where the role is one tenant's own.
            tenant=cast(str | None, context.get(f"aws:PrincipalTag/{TENANT_TAG}")),
            action=permission.action,
            resource=permission.resource,
            context=context,
            allowed=verdict.allowed,
            source="identity",
            reason=reason,
        )

    def deny(
        self,
        principal: Principal,
        action: str,
        reason: str,
        *,
        resource: str = "*",
        source: Source = "identity",
    ) -> Decision:
        """Record a refusal that needs no policy."""
        return self.decisions.append(
            principal=principal.arn,
            tenant=principal.tenant,
            action=action,
            resource=resource,
            allowed=False,
            source=source,
            reason=reason,
        )

    def identity_verdict(self, principal: Principal, permission: Permission) -> tuple[Verdict, str]:
        """What the principal's own policies say, and why. The operator has every permission."""
        if principal.kind == "operator":
            return Verdict.ALLOWED, "the operator is not judged"
        role = find_role(self.account, principal.role_name or "")
        if role is None:
            return Verdict.EXPLICITLY_DENIED, "the role does not exist any more"
        request = Request(
            action=permission.action,
            resource=permission.resource,
            context=permission.context,
            principal=principal.arn,
            principal_role=role.arn,
        )
        try:
            verdict = evaluate(_identity_policies(self.account, role), request)
            boundary = _boundary(self.account, role)
            if verdict.allowed and boundary is not None:
                verdict = evaluate([boundary], request)
                return verdict, f"{verdict.value} by the permissions boundary of {role.name}"
        except (PolicyError, LookupError, ValueError) as error:
            return Verdict.EXPLICITLY_DENIED, f"a policy of {role.name} can't be evaluated: {error}"
        return verdict, f"{verdict.value} by the policies of {role.name}"


def principal_context(principal: Principal, account: str, region: str) -> dict[str, str | list[str]]:
    """Condition keys that every call of this principal carries.

    A session's tag takes the place of the role's own tag of that key, whatever its case (IAM user guide, "Pass session
    tags in AWS STS").
    """
    role = find_role(account, principal.role_name) if principal.role_name is not None else None
    tags = {} if role is None else {tag["Key"].lower(): (tag["Key"], tag["Value"]) for tag in role.tags}
    tags |= {key.lower(): (key, value) for key, value in principal.tags.items()}
    return {
        "aws:PrincipalArn": principal.arn if role is None else role.arn,
        "aws:PrincipalAccount": account,
        "aws:RequestedRegion": region,
        **{f"aws:PrincipalTag/{key}": value for key, value in tags.values()},
    }


# --- Roles and policies in moto's IAM -------------------------------------------------------------


def find_role(account: str, name: str) -> Any | None:
    """moto's role of this name; None when there is none."""
    roles = iam_backends[account]["aws"].roles
    return next((role for role in list(roles.values()) if role.name == name), None)


def parse_document(document: Any) -> Policy:
    """A policy document as moto stores it: as text, or as an object when CloudFormation made it."""
    if isinstance(document, str):
        return _parse_text(document)
    return cast(Policy, document)


@lru_cache(maxsize=256)
def _parse_text(document: str) -> Policy:
    return cast(Policy, json.loads(document))


def _identity_policies(account: str, role: Any) -> list[Policy]:
    managed = [_default_version(policy) for policy in list(role.managed_policies.values())]
    return [parse_document(document) for document in [*role.policies.values(), *managed]]


def _boundary(account: str, role: Any) -> Policy | None:
    if not role.permissions_boundary_arn:
        return None
    policies = iam_backends[account]["aws"].managed_policies
    return parse_document(_default_version(policies[role.permissions_boundary_arn]))


def _default_version(policy: Any) -> Any:
    return next(version.document for version in policy.versions if version.is_default)
