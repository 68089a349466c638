"""Layer three: who becomes whom. Every way into a role is tried on its trust policy."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from local.iam import Request, evaluate

from .documents import LAMBDA, OTHER_ACCOUNT, Documents, Role


@dataclass(frozen=True)
class Attempt:
    """One attempt to become the tenant role, or another role.

    Attributes:
        name: what is presented.
        action: the STS action; with tags, sts:TagSession must be allowed too.
        caller: the fields of `Request` that say who asks.
        tags: session tags.
        context: condition keys besides those of the tags.
    """

    name: str
    action: str
    caller: Mapping[str, str]
    tags: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, str | list[str]] = field(default_factory=dict)
    allowed: bool = False


def violations(documents: Documents, known: Documents | None = None) -> Iterator[str]:
    """The attempts whose outcome is not the expected one, one line each.

    known: what was tried before. On its roles nothing is tried again.
    """
    tried = {id(role) for role in known.roles} if known else set()
    for role, attempt in attempts(documents):
        if id(role) not in tried and _succeeds(role, attempt) != attempt.allowed:
            expected = "allowed" if attempt.allowed else "denied"
            yield f"{role.name} by {attempt.name}: expected {expected}"


def attempts(documents: Documents) -> Iterator[tuple[Role, Attempt]]:
    """Every attempt, with the role that it is made on."""
    if documents.own_runtime:
        on_tenant = [
            _runtime(documents, documents.account, allowed=True),
            _runtime(documents, OTHER_ACCOUNT),
            _runtime(documents, None),
            replace(_token(documents), allowed=False),
            *_strangers(documents),
        ]
        runs_functions = LAMBDA in documents.own_services
        on_tenant.append(Attempt("Lambda", "sts:AssumeRole", {"service": LAMBDA}, allowed=runs_functions))
    else:
        proper = _function(documents) if documents.vending else _token(documents)
        on_tenant = [proper, *_altered_tags(proper)]
        if documents.tenant.tenant:
            on_tenant += _other_tenants(proper)
        if documents.vending:
            on_tenant += [replace(_token(documents), allowed=False), *_altered_transitivity(proper)]
        else:
            # Which tags are transitive is for the issuer to say, who signs it.
            on_tenant += [replace(attempt, allowed=False) for attempt in _altered_tokens(documents)]
        on_tenant += [
            attempt
            for attempt in _strangers(documents)
            if not (documents.vending and _is_session_of(documents.vending, attempt))
        ]
    for attempt in on_tenant:
        yield documents.tenant, attempt
    yield from _on_data_operations(documents)
    knowledge = documents.knowledge
    for role in (
        documents.execution,
        documents.vending,
        documents.stacks,
        *documents.around_knowledge,
        *documents.others,
    ):
        if role is not None:
            for attempt in (_token(documents), *_strangers(documents)):
                yield role, replace(attempt, tags={}, allowed=False)
    if knowledge:
        yield knowledge.service_role, _bedrock(documents, documents.account, allowed=True)
        yield knowledge.service_role, _bedrock(documents, OTHER_ACCOUNT)
        yield knowledge.service_role, _bedrock(documents, None)
    if documents.execution:
        yield documents.execution, _runtime(documents, documents.account, allowed=True)
        yield documents.execution, _runtime(documents, OTHER_ACCOUNT)
        yield documents.execution, _runtime(documents, None)


def _on_data_operations(documents: Documents) -> Iterator[tuple[Role, Attempt]]:
    """The data function alone takes the roles that reach tenants' data: one as a tenant, and one as itself."""
    function = documents.data_function
    caller = {"principal": function.session(), "principal_role": function.arn}
    tags, context = {"TenantId": documents.me}, {"sts:RoleSessionName": documents.me}
    as_tenant = Attempt("the data function", "sts:AssumeRole", caller, tags, context, allowed=True)
    as_itself = replace(as_tenant, tags={})
    strangers = [attempt for attempt in _strangers(documents) if not _is_session_of(function, attempt)]
    for attempt in (as_tenant, *_altered_tags(as_tenant), replace(_token(documents), allowed=False), *strangers):
        yield documents.data, attempt
    for role in (documents.upkeep, documents.knowledge_upkeep):
        for attempt in (as_itself, replace(as_tenant, name="the data function with a tag", allowed=False), *strangers):
            if role is not None:
                yield role, attempt
    if documents.stacks:
        service = {"service": "cloudformation.amazonaws.com"}
        yield documents.stacks, Attempt("CloudFormation", "sts:AssumeRole", service, allowed=True)


def _is_session_of(role: Role, attempt: Attempt) -> bool:
    return attempt.caller.get("principal_role") == role.arn


def _token(documents: Documents) -> Attempt:
    return Attempt(
        "a token of the own pool",
        "sts:AssumeRoleWithWebIdentity",
        {"federated": documents.provider},
        {"TenantId": documents.me},
        {
            f"{documents.issuer_path}:aud": documents.client_id,
            f"{documents.issuer_path}:sub": "user",
            "sts:RoleSessionName": "acme-user",
            "sts:TransitiveTagKeys": ["TenantId"],
        },
        allowed=True,
    )


def _function(documents: Documents) -> Attempt:
    vending = documents.vending
    assert vending is not None
    return Attempt(
        "the credentials function",
        "sts:AssumeRole",
        {"principal": vending.session(), "principal_role": vending.arn},
        {"TenantId": documents.me},
        {"sts:RoleSessionName": "acme-user", "sts:TransitiveTagKeys": ["TenantId"]},
        allowed=True,
    )


def _altered_tags(proper: Attempt) -> Iterator[Attempt]:
    for name, tags in (
        ("no tags", {}),
        ("an empty tenant", {"TenantId": ""}),
        ("a further tag", {**proper.tags, "Tier": "premium"}),
        ("another tag", {"Tier": "premium"}),
        # Tag keys are the same in any case to a condition key, but not to aws:TagKeys.
        ("the tag key in lower case", {"tenantid": proper.tags["TenantId"]}),
    ):
        yield replace(proper, name=f"{proper.name} with {name}", tags=tags, allowed=False)


def _other_tenants(proper: Attempt) -> Iterator[Attempt]:
    """A role of one tenant's own is nobody else's."""
    for tenant in ("globex", proper.tags["TenantId"] + "2", "*"):
        name = f"{proper.name} of tenant {tenant}"
        yield replace(proper, name=name, tags={"TenantId": tenant}, allowed=False)


def _altered_transitivity(proper: Attempt) -> Iterator[Attempt]:
    """A tag that is not transitive could be replaced by whoever chains from the session."""
    key = "sts:TransitiveTagKeys"
    without = {name: value for name, value in proper.context.items() if name != key}
    yield replace(proper, name=f"{proper.name} with a passing tag", context=without, allowed=False)
    yield replace(
        proper,
        name=f"{proper.name} with a further transitive tag",
        context={**without, key: ["TenantId", "Tier"]},
        allowed=False,
    )


def _altered_tokens(documents: Documents) -> Iterator[Attempt]:
    token, audience = _token(documents), f"{documents.issuer_path}:aud"
    for name, value in (
        ("another client", "another-client"),
        ("a client named alike", documents.client_id + "2"),
    ):
        yield replace(token, name=f"a token for {name}", context={**token.context, audience: value})
    without = {key: value for key, value in token.context.items() if key != audience}
    yield replace(token, name="a token without audience", context=without)
    for name, issuer in (
        ("another pool", documents.issuer_path + "2"),
        ("another issuer", "issuer.example.com"),
    ):
        yield replace(
            token,
            name=f"a token of {name}",
            caller={"federated": f"arn:aws:iam::{documents.account}:oidc-provider/{issuer}"},
            context={**without, f"{issuer}:aud": documents.client_id},
        )
        yield replace(
            token,
            name=f"a token of {name} that claims the own audience",
            caller={"federated": f"arn:aws:iam::{documents.account}:oidc-provider/{issuer}"},
        )


def _strangers(documents: Documents) -> Iterator[Attempt]:
    """Everybody who holds AWS credentials or none, with the tags of a proper attempt."""
    roles = {
        "a session of the role itself": documents.tenant,
        **{
            f"the role {role.name}": role
            for role in (*documents.around_knowledge, *documents.others, *documents.tenants)
        },
    }
    if documents.execution:
        roles["the shared runtime"] = documents.execution
    if documents.vending:
        roles["the credentials function"] = documents.vending
    callers = {name: {"principal": role.session("acme"), "principal_role": role.arn} for name, role in roles.items()}
    for name, account in (("the same", documents.account), ("another", OTHER_ACCOUNT)):
        callers[f"a role of {name} account"] = {
            "principal": f"arn:aws:sts::{account}:assumed-role/somebody/session",
            "principal_role": f"arn:aws:iam::{account}:role/somebody",
        }
    callers["a user of the account"] = {"principal": f"arn:aws:iam::{documents.account}:user/any"}
    callers["a service"] = {"service": "ec2.amazonaws.com"}
    callers["nobody"] = {}
    for name, caller in callers.items():
        for action in ("sts:AssumeRole", "sts:AssumeRoleWithWebIdentity"):
            tagged = Attempt(
                f"{name}, {action}",
                action,
                caller,
                {"TenantId": documents.me},
                {
                    f"{documents.issuer_path}:aud": documents.client_id,
                    "sts:RoleSessionName": "acme-user",
                    "sts:TransitiveTagKeys": ["TenantId"],
                },
            )
            yield tagged
            yield replace(tagged, name=f"{tagged.name} without tags", tags={})


def _runtime(documents: Documents, account: str | None, *, allowed: bool = False) -> Attempt:
    arn = f"arn:aws:bedrock-agentcore:{documents.region}:{account}:runtime/any"
    return _service("bedrock-agentcore.amazonaws.com", account, arn, allowed=allowed)


def _bedrock(documents: Documents, account: str | None, *, allowed: bool = False) -> Attempt:
    arn = f"arn:aws:bedrock:{documents.region}:{account}:knowledge-base/ANY0000000"
    return _service("bedrock.amazonaws.com", account, arn, allowed=allowed)


def _service(service: str, account: str | None, source_arn: str, *, allowed: bool) -> Attempt:
    source = {"aws:SourceAccount": account, "aws:SourceArn": source_arn} if account else {}
    return Attempt(
        f"{service} for {'account ' + account if account else 'nobody in particular'}",
        "sts:AssumeRole",
        {"service": service},
        {},
        source,
        allowed,
    )


def _succeeds(role: Role, attempt: Attempt) -> bool:
    tag_context: dict[str, str | list[str]] = {f"aws:RequestTag/{key}": value for key, value in attempt.tags.items()}
    if attempt.tags:
        tag_context["aws:TagKeys"] = list(attempt.tags)
    actions = [attempt.action, *(["sts:TagSession"] if attempt.tags else [])]
    return all(
        evaluate(
            [role.trust],
            Request(action, role.arn, {**tag_context, **attempt.context}, **attempt.caller),
            trust=True,
        ).allowed
        for action in actions
    )
