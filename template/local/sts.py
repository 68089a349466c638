"""STS: sessions of roles for callers, for web identity tokens, and for services.

Trust policies, session tags and tokens are judged as AWS documents it in the IAM User Guide ("Pass
session tags in AWS STS", "Chain roles with session tags", "Using OIDC federation"). Session
policies are refused, since they are not evaluated.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from moto.iam.models import iam_backends

from .authorization import (
    Authorizer,
    DecisionLog,
    Principal,
    find_role,
    parse_document,
    principal_context,
)
from .gate import Gate
from .iam import Policy, PolicyError, Request, Verdict, as_list, evaluate
from .operations import Call, ServiceError
from .permissions import Permission

FetchKeys = Callable[[str], Mapping[str, Any]]
"""Issuer URL -> its JSON Web Key Set."""

TAGS_CLAIM = "https://aws.amazon.com/tags"
_LONGEST_TOKEN = 20_000
_SHORTEST_SECONDS = 900
_DEFAULT_SECONDS = 3600
_CHAINED_SECONDS = 3600
_MOST_TAGS = 50
_TAG_TEXT = re.compile(r"[\w\s.:/=+\-@]*")
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)


def register(gate: Gate, *, jwks: FetchKeys) -> None:
    """Answer AssumeRole, AssumeRoleWithWebIdentity and GetCallerIdentity at `gate`."""
    sts = _Sts(gate, jwks)
    gate.handle("sts", "AssumeRole", sts.assume_role, judges_itself=True)
    gate.handle("sts", "AssumeRoleWithWebIdentity", sts.assume_role_with_web_identity, judges_itself=True)
    gate.handle("sts", "GetCallerIdentity", sts.get_caller_identity, judges_itself=True)


def assume_as_service(
    gate: Gate, role_name: str, service: str, session_name: str, *, source_arn: str | None = None
) -> dict[str, Any]:
    """Credentials of a role for a service, if its trust policy allows it.

    Args:
        service: "lambda.amazonaws.com".
        source_arn: the resource that the service acts for, as aws:SourceArn.

    Returns:
        AccessKeyId, SecretAccessKey, SessionToken, Expiration (UTC).

    Raises:
        ServiceError: AccessDenied, when the role does not exist or does not trust the service.
    """
    context: dict[str, str | list[str]] = {"aws:SourceAccount": gate.account}
    if source_arn is not None:
        context["aws:SourceArn"] = source_arn
    judge = _TrustJudge(gate.decisions, principal=service, tenant=None)
    role = find_role(gate.account, role_name)
    if role is None:
        raise judge.refuse("sts:AssumeRole", f"role/{role_name}", _no_role())
    request = Request("sts:AssumeRole", role.arn, context, service=service)
    judge.require(request, _evaluate_trust(role, request))
    return gate.sessions.issue(role_name, session_name, seconds=_DEFAULT_SECONDS)


@dataclass(frozen=True)
class _Tags:
    """Session tags that a request asks for."""

    values: Mapping[str, str] = field(default_factory=dict)
    transitive: frozenset[str] = frozenset()

    def context(self) -> dict[str, str | list[str]]:
        context: dict[str, str | list[str]] = {f"aws:RequestTag/{key}": value for key, value in self.values.items()}
        if self.values:
            context["aws:TagKeys"] = list(self.values)
        if self.transitive:
            context["sts:TransitiveTagKeys"] = sorted(self.transitive)
        return context


@dataclass(frozen=True)
class _TrustJudge:
    """Judges one caller by trust policies, and records what came of it."""

    decisions: DecisionLog
    principal: str
    tenant: str | None

    def require(self, request: Request, outcome: tuple[bool, str]) -> None:
        """Record the outcome; refused: ServiceError AccessDenied."""
        allowed, reason = outcome
        self.decisions.append(
            principal=self.principal,
            tenant=self.tenant,
            action=request.action,
            resource=request.resource,
            context={key: value if isinstance(value, str) else list(value) for key, value in request.context.items()},
            allowed=allowed,
            source="trust",
            reason=reason,
        )
        if not allowed:
            raise ServiceError(
                "AccessDenied",
                f"User: {self.principal} is not authorized to perform: {request.action}"
                f" on resource: {request.resource}",
                403,
            )

    def refuse(self, action: str, role_arn: str, error: ServiceError) -> ServiceError:
        """Record that the request itself is refused; hand the error back to be raised."""
        self.decisions.append(
            principal=self.principal,
            tenant=self.tenant,
            action=action,
            resource=role_arn,
            allowed=False,
            source="trust",
            reason=error.message,
        )
        return error


def _evaluate_trust(role: Any, request: Request) -> tuple[bool, str]:
    """Whether the role's trust policy allows the request, and why."""
    return _evaluate_document(parse_document(role.assume_role_policy_document), request)


def _evaluate_document(document: Policy, request: Request) -> tuple[bool, str]:
    try:
        verdict = evaluate([document], request, trust=True)
    except (PolicyError, LookupError, ValueError) as error:
        return False, f"the trust policy can't be evaluated: {error}"
    return verdict.allowed, f"{verdict.value} by the trust policy"


class _Sts:
    def __init__(self, gate: Gate, jwks: FetchKeys) -> None:
        self._gate = gate
        self._jwks = jwks

    def get_caller_identity(self, call: Call) -> dict[str, Any]:
        principal = call.principal
        self._gate.decisions.append(
            principal=principal.arn,
            tenant=principal.tenant,
            action="sts:GetCallerIdentity",
            resource="*",
            allowed=True,
            source="identity",
            reason="it needs no permission",
        )
        user_id = principal.access_key_id or ""
        if principal.role_name is not None:
            user_id = f"{_role_id(self._gate.account, principal)}:{principal.session_name}"
        return {"Account": self._gate.account, "Arn": principal.arn, "UserId": user_id}

    # --- AssumeRole -------------------------------------------------------------------------------

    def assume_role(self, call: Call) -> dict[str, Any]:
        caller, params = call.principal, call.params
        judge = _TrustJudge(self._gate.decisions, caller.arn, caller.tenant)
        try:
            role = _existing_role(self._gate.account, params["RoleArn"])
            _refuse_session_policies(params)
            tags = _requested_tags(params)
            _check_inherited(caller, tags)
            seconds = _seconds(params, role, chained=caller.kind == "role")
            name = _session_name(params)
        except ServiceError as error:
            raise judge.refuse("sts:AssumeRole", params["RoleArn"], error) from error
        context = {
            **principal_context(caller, self._gate.account, call.region),
            **tags.context(),
            "sts:RoleSessionName": name,
        }
        for key in ("ExternalId", "SourceIdentity"):
            if params.get(key):
                context[f"sts:{key}"] = params[key]
        actions = ["sts:AssumeRole", *(["sts:TagSession"] if tags.values else [])]
        for action in actions:
            request = Request(
                action,
                params["RoleArn"],
                context,
                principal=caller.arn,
                principal_role=_role_arn(self._gate.account, caller),
            )
            judge.require(request, _may_assume(self._gate.authorizer, caller, role, request))
        inherited = {key: caller.tags[key] for key in caller.transitive}
        transitive = tags.transitive | caller.transitive
        credentials = self._gate.sessions.issue(role.name, name, {**tags.values, **inherited}, seconds, transitive)
        return {"Credentials": credentials, "AssumedRoleUser": self._assumed(role, name)}

    def _assumed(self, role: Any, session_name: str) -> dict[str, str]:
        arn = f"arn:aws:sts::{self._gate.account}:assumed-role/{role.name}/{session_name}"
        return {"AssumedRoleId": f"{role.id}:{session_name}", "Arn": arn}

    # --- AssumeRoleWithWebIdentity ----------------------------------------------------------------

    def assume_role_with_web_identity(self, call: Call) -> dict[str, Any]:
        params, action = call.params, "sts:AssumeRoleWithWebIdentity"
        unverified = _TrustJudge(self._gate.decisions, "web identity: not verified", None)
        try:
            role = _existing_role(self._gate.account, params["RoleArn"])
            _refuse_session_policies(params)
            identity = _verify_token(params["WebIdentityToken"], self._gate.account, self._jwks)
            seconds = _seconds(params, role, chained=False)
            name = _session_name(params)
        except ServiceError as error:
            raise unverified.refuse(action, params["RoleArn"], error) from error
        judge = _TrustJudge(
            self._gate.decisions,
            f"web identity: {identity.provider}/{identity.subject}",
            identity.tags.values.get("TenantId"),
        )
        context = {
            f"{identity.provider}:aud": identity.audience,
            f"{identity.provider}:sub": identity.subject,
            "aws:FederatedProvider": identity.provider_arn,
            "sts:RoleSessionName": name,
            **identity.tags.context(),
        }
        for needed in [action, *(["sts:TagSession"] if identity.tags.values else [])]:
            request = Request(needed, params["RoleArn"], context, federated=identity.provider_arn)
            judge.require(request, _evaluate_trust(role, request))
        credentials = self._gate.sessions.issue(
            role.name, name, identity.tags.values, seconds, identity.tags.transitive
        )
        return {
            "Credentials": credentials,
            "AssumedRoleUser": self._assumed(role, name),
            "SubjectFromWebIdentityToken": identity.subject,
            "Provider": identity.provider_arn,
            "Audience": identity.audience,
        }


# --- Who may assume a role ------------------------------------------------------------------------


def _may_assume(authorizer: Authorizer, caller: Principal, role: Any, request: Request) -> tuple[bool, str]:
    """Trust that names the caller itself is enough within an account; trust in the account is not.

    The second then needs the caller's own policies too. "*" is taken for the account: AWS lets it
    through more easily, so this is the stricter reading. An explicit deny on either side wins.
    """
    document = parse_document(role.assume_role_policy_document)
    trusted, reason = _evaluate_document(document, request)
    if not trusted:
        return False, reason
    permission = Permission(
        request.action,
        request.resource,
        {k: v if isinstance(v, str) else list(v) for k, v in request.context.items()},
    )
    verdict, identity_reason = authorizer.identity_verdict(caller, permission)
    if verdict is Verdict.EXPLICITLY_DENIED:
        return False, identity_reason
    by_name, _ = _evaluate_document(_naming(document, request), request)
    if by_name:
        return True, "allowed by the trust policy, which names the caller"
    return verdict.allowed, f"trusted as part of the account, {identity_reason}"


def _naming(document: Policy, request: Request) -> Policy:
    """The trust policy without the principals that are not the caller itself."""
    own = {arn for arn in (request.principal, request.principal_role) if arn}
    statements = []
    for statement in as_list(document["Statement"]):
        principal = statement.get("Principal")
        named = as_list(principal.get("AWS", [])) if isinstance(principal, Mapping) else []
        if statement["Effect"] == "Deny":
            statements.append(statement)
        elif own & set(named):
            statements.append({**statement, "Principal": {"AWS": sorted(own & set(named))}})
    return {**document, "Statement": statements}


def _existing_role(account: str, arn: str) -> Any:
    """The role with exactly this ARN."""
    role = find_role(account, arn.rpartition("/")[2])
    if role is None or role.arn != arn:
        raise _no_role()
    return role


def _no_role() -> ServiceError:
    return ServiceError("AccessDenied", "the role does not exist, or does not trust the caller", 403)


def _role_arn(account: str, principal: Principal) -> str:
    role = find_role(account, principal.role_name) if principal.role_name else None
    return str(role.arn) if role is not None else ""


def _role_id(account: str, principal: Principal) -> str:
    role = find_role(account, principal.role_name or "")
    return str(role.id) if role is not None else ""


# --- Parameters -----------------------------------------------------------------------------------


def _refuse_session_policies(params: Mapping[str, Any]) -> None:
    for name in ("Policy", "PolicyArns", "ProviderId"):
        if params.get(name):
            raise ServiceError("ValidationError", f"{name} is not supported here: leave it out")


def _session_name(params: Mapping[str, Any]) -> str:
    name = str(params["RoleSessionName"])
    if not _SESSION_NAME.fullmatch(name):
        raise ServiceError("ValidationError", "RoleSessionName must be 2 to 64 of letters, digits and _+=,.@-")
    return name


def _seconds(params: Mapping[str, Any], role: Any, *, chained: bool) -> int:
    """How long the session lasts: 900 s to the role's maximum, which is 3600 s in a chain."""
    seconds = int(params.get("DurationSeconds") or _DEFAULT_SECONDS)
    longest = int(role.max_session_duration or _DEFAULT_SECONDS)
    longest = min(longest, _CHAINED_SECONDS) if chained else longest
    if not _SHORTEST_SECONDS <= seconds <= longest:
        raise ServiceError(
            "ValidationError",
            f"DurationSeconds is {seconds}: it must be {_SHORTEST_SECONDS} to {longest}",
        )
    return seconds


def _requested_tags(params: Mapping[str, Any]) -> _Tags:
    pairs = [(str(tag["Key"]), str(tag["Value"])) for tag in params.get("Tags") or []]
    return _checked_tags(pairs, params.get("TransitiveTagKeys") or [])


def _checked_tags(pairs: list[tuple[str, str]], transitive: list[str]) -> _Tags:
    """Session tags within STS's limits; keys are one regardless of case.

    Raises:
        ServiceError: ValidationError or InvalidParameterValue.
    """
    folded = [key.lower() for key, _ in pairs]
    if len(pairs) > _MOST_TAGS or len(set(folded)) != len(folded):
        raise ServiceError("InvalidParameterValue", f"session tags: at most {_MOST_TAGS}, each key once")
    for key, value in pairs:
        valid = _TAG_TEXT.fullmatch(key) and _TAG_TEXT.fullmatch(value)
        if not valid or not 1 <= len(key) <= 128 or len(value) > 256 or key.startswith("aws:"):
            raise ServiceError(
                "ValidationError",
                "a session tag's key has 1 to 128 characters and its value up to 256:"
                " letters, digits, spaces and _.:/=+-@",
            )
    if not set(transitive) <= {key for key, _ in pairs}:
        raise ServiceError("InvalidParameterValue", "TransitiveTagKeys names a tag that is not set")
    return _Tags(dict(pairs), frozenset(transitive))


def _check_inherited(caller: Principal, tags: _Tags) -> None:
    inherited = {key.lower() for key in caller.transitive}
    if inherited & {key.lower() for key in tags.values}:
        raise ServiceError(
            "InvalidParameterValue",
            "One of the specified tag keys conflicts with a transitive tag key from the calling session.",
        )


# --- Web identity tokens --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Identity:
    """A verified web identity: whose token, for whom, with which session tags.

    Attributes:
        provider: the issuer without its scheme, as trust policies write it in condition keys.
    """

    provider: str
    provider_arn: str
    audience: str
    subject: str
    tags: _Tags


def _invalid(reason: str) -> ServiceError:
    return ServiceError("InvalidIdentityToken", f"The web identity token is refused: {reason}")


def _verify_token(token: str, account: str, jwks: FetchKeys) -> _Identity:
    """The identity in a token that a provider of this account signed for one of its clients.

    Raises:
        ServiceError: InvalidIdentityToken; ExpiredTokenException.
    """
    if len(token) > _LONGEST_TOKEN:
        raise _invalid(f"it is longer than {_LONGEST_TOKEN} characters")
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError) as error:
        raise _invalid("it is no JSON Web Token") from error
    provider = _provider(account, issuer)
    if provider is None:
        raise _invalid("no identity provider of this account is its issuer")
    if header.get("alg") != "RS256":
        raise _invalid("it must be signed with RS256")
    claims = _verified_claims(token, _key(jwks(str(issuer)), header.get("kid")), provider, issuer)
    audiences = as_list(claims["aud"])
    return _Identity(
        provider=str(provider.url),
        provider_arn=str(provider.arn),
        audience=next(aud for aud in audiences if aud in provider.client_id_list),
        subject=str(claims["sub"]),
        tags=_tags_in(claims),
    )


def _provider(account: str, issuer: Any) -> Any | None:
    providers = list(iam_backends[account]["aws"].open_id_providers.values())
    return next((p for p in providers if issuer == f"https://{p.url}"), None)


def _key(keys: Mapping[str, Any], key_id: Any) -> Any:
    for key in keys.get("keys", []):
        if key_id is not None and key.get("kid") == key_id:
            return jwt.PyJWK(key, algorithm="RS256").key
    raise _invalid("its issuer has no such key")


def _verified_claims(token: str, key: Any, provider: Any, issuer: Any) -> dict[str, Any]:
    try:
        return dict(
            jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                issuer=issuer,
                audience=list(provider.client_id_list),
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        )
    except jwt.ExpiredSignatureError as error:
        raise ServiceError("ExpiredTokenException", "The web identity token has expired.") from error
    except jwt.MissingRequiredClaimError as error:
        raise _invalid(f"it has no claim {error.claim}") from error
    except jwt.InvalidAudienceError as error:
        raise _invalid("its audience is no client of the identity provider") from error
    except jwt.PyJWTError as error:
        raise _invalid("its signature does not verify") from error


def _tags_in(claims: Mapping[str, Any]) -> _Tags:
    """Session tags of the tags claim: every value is a list of exactly one text."""
    claim = claims.get(TAGS_CLAIM)
    if claim is None:
        return _Tags()
    try:
        values, transitive = claim["principal_tags"], claim.get("transitive_tag_keys", [])
        pairs = [(key, value) for key, (value,) in values.items()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _invalid("its tags claim must hold principal_tags with lists of one text") from error
    texts = [text for pair in pairs for text in pair] + list(transitive)
    if not all(isinstance(text, str) for text in texts):
        raise _invalid("its tags claim must hold texts")
    try:
        return _checked_tags(pairs, list(transitive))
    except ServiceError as error:
        raise _invalid(error.message) from error
