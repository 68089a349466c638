"""Policies with one hole each. What the checks are worth is how many of them they kill.

A mutant is made from the deployed policies, so that it follows every edit of them. Left out because
they mean the same as the original:

- StringEquals turned into StringLike where the value holds no wildcard: a tag's value is literal.
- IfExists on a ForAllValues operator of a trust policy: it passes a missing key already, and the
  condition on aws:RequestTag/TenantId is what refuses a session without tags.
- The Effect or the Sid of a statement, which no tenant gains from.
"""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal

from local.iam import as_list

from .allow_list import ASSUME_WITH_TAGS, component_of, tenant_statements
from .documents import LAMBDA, TENANT_KEY, Documents, Knowledge, Role, statements

Statement = dict[str, Any]
Seen = Literal["verdict", "text"]


@dataclass(frozen=True)
class Mutant:
    """Documents with one hole.

    Attributes:
        seen: `verdict` where somebody reaches what is not theirs, or no longer what is: the matrix
            or the trust layer must notice. `text` where nobody does yet: the allow-list must.
    """

    name: str
    documents: Documents
    seen: Seen


Change = tuple[str, Statement, Seen]


def mutants(documents: Documents) -> list[Mutant]:
    """All mutants of these documents."""
    return [
        *_of_tenant_statements(documents),
        *_with_a_further_statement(documents),
        *_of_tenant_trust(documents),
        *_of_the_roles_around(documents),
        *_of_data_operations(documents),
    ]


# --- The tenant role's policies -------------------------------------------------------------------


def _of_tenant_statements(documents: Documents) -> Iterator[Mutant]:
    changes: tuple[Callable[[Statement, Documents], Iterator[Change]], ...] = (
        _without_a_condition,
        _passing_a_missing_key,
        _with_a_weaker_quantifier,
        _with_a_wider_value,
        _with_a_wider_resource,
        _with_a_wider_action,
        _with_another_variable,
    )
    for number, original in enumerate(statements(documents.tenant.policies)):
        if original not in tenant_statements(documents):
            continue  # for the runtime itself: one of the roles around
        label = original.get("Sid", f"statement {number}")
        for change in changes:
            for name, changed, seen in change(deepcopy(dict(original)), documents):
                role = _replace_statement(documents.tenant, number, changed)
                yield Mutant(f"{label}: {name}", replace(documents, tenant=role), seen)


def _without_a_condition(statement: Statement, documents: Documents) -> Iterator[Change]:
    for operator, key in _conditions(statement):
        seen: Seen = "verdict"
        if operator == "Null" and not _guard_decides(statement, key, documents):
            seen = "text"
        yield f"without {operator} {key}", _drop(statement, operator, key), seen


def _guard_decides(statement: Statement, key: str, documents: Documents) -> bool:
    """Whether a Null guard refuses something that nothing else in the statement refuses."""
    conditions = statement["Condition"]
    if str(conditions["Null"][key]).lower() == "true":
        return True
    if key == TENANT_KEY:
        # A variable without value matches nothing, so elsewhere this guard is the second lock; and a role of a tenant's
        # own has the tag always.
        return documents.tenant.tenant is None and documents.tenant_text not in str(statement)
    return any(key in keys for name, keys in conditions.items() if name.startswith("ForAllValues:"))


def _passing_a_missing_key(statement: Statement, _: Documents) -> Iterator[Change]:
    for operator, key in _conditions(statement):
        if operator != "Null":
            guarded = key in statement["Condition"].get("Null", {})
            changed = _move(statement, operator, key, operator + "IfExists")
            yield f"{operator}IfExists {key}", changed, "text" if guarded else "verdict"


def _with_a_weaker_quantifier(statement: Statement, _: Documents) -> Iterator[Change]:
    for operator, key in _conditions(statement):
        if operator.startswith("ForAllValues:"):
            for quantifier in ("ForAnyValue:", ""):
                target = operator.replace("ForAllValues:", quantifier)
                changed = _move(statement, operator, key, target)
                yield f"{quantifier or 'no quantifier'} {key}", changed, "verdict"


def _with_a_wider_value(statement: Statement, documents: Documents) -> Iterator[Change]:
    for operator, key in _conditions(statement):
        values = as_list(statement["Condition"][operator][key])
        if not any(documents.names_tenant(str(value)) for value in values):
            continue
        like = operator.replace("StringEquals", "StringLike")
        for name, value in _wider(values[0], documents.tenant_text):
            yield f"{key} {name}", _move(statement, operator, key, like, value), "verdict"


def _with_a_wider_resource(statement: Statement, documents: Documents) -> Iterator[Change]:
    yield "any resource", {**statement, "Resource": "*"}, "verdict"
    resources = as_list(statement["Resource"])
    if documents.names_tenant(resources[0]):
        for name, resource in _wider(resources[0], documents.tenant_text):
            yield f"resource {name}", {**statement, "Resource": resource}, "verdict"
    yield (
        "NotResource",
        _renamed(statement, "Resource", "NotResource", "arn:aws:iam::1:any"),
        "verdict",
    )


def _wider(value: str, tenant: str) -> Iterator[tuple[str, str]]:
    before, _, after = value.rpartition(tenant)
    yield "without a separator", f"{before}{tenant}*"
    yield "of any tenant", f"{before}*{after}"
    if before:
        yield "anything", value[: value.find("tenants/")] + "*" if "tenants/" in before else "*"


def _with_a_wider_action(statement: Statement, documents: Documents) -> Iterator[Change]:
    actions = as_list(statement["Action"])
    service = actions[0].split(":")[0]
    yield f"{service}:*", {**statement, "Action": f"{service}:*"}, "text"
    for action in {
        "dynamodb": ("dynamodb:Scan", "dynamodb:PartiQLSelect"),
        "bedrock-agentcore": (
            "bedrock-agentcore:ListActors",
            "bedrock-agentcore:BatchUpdateMemoryRecords",
        ),
        "s3": ("s3:PutObjectAcl",),
        "bedrock": ("bedrock:RetrieveAndGenerate", "bedrock:ListKnowledgeBaseDocuments"),
        "lambda": ("lambda:UpdateFunctionCode",),
        "secretsmanager": ("secretsmanager:ListSecrets", "secretsmanager:PutSecretValue"),
    }[service]:
        yield f"with {action}", {**statement, "Action": [*actions, action]}, "text"
    if component_of(as_list(statement["Resource"])[0], documents) in ("registry", "quotas", "ledger"):
        changed = {**statement, "Action": [*actions, "dynamodb:PutItem"]}
        yield "with dynamodb:PutItem", changed, "verdict"


def _with_another_variable(statement: Statement, documents: Documents) -> Iterator[Change]:
    tenant = documents.tenant_text
    if tenant not in str({**statement, "Sid": ""}):
        return
    if documents.tenant.tenant:
        yield "bound to another tenant", _substituted(statement, tenant, "globex"), "verdict"
    else:
        default = "${aws:PrincipalTag/TenantId, 'acme'}"
        yield "a default for the tenant", _substituted(statement, tenant, default), "text"
        other = "${aws:PrincipalTag/Tier}"
        yield "bound to another tag", _substituted(statement, tenant, other), "verdict"


def _with_a_further_statement(documents: Documents) -> Iterator[Mutant]:
    further: dict[str, Statement] = {
        "list every actor": {
            "Action": "bedrock-agentcore:ListActors",
            "Resource": documents.memory,
        },
        "read any record by its id": {
            "Action": ["bedrock-agentcore:GetMemoryRecord"],
            "Resource": documents.memory,
        },
        "the SDK's legacy actors": {
            "Action": "bedrock-agentcore:ListEvents",
            "Resource": documents.memory,
            "Condition": {"StringLike": {"bedrock-agentcore:actorId": "session_*"}},
        },
        "read the whole registry": {"Action": "dynamodb:GetItem", "Resource": documents.registry},
        "assume roles": {"Action": "sts:AssumeRole", "Resource": "*"},
        "everything": {"Action": "*", "Resource": "*"},
    }
    if documents.table:
        further["scan the table"] = {"Action": "dynamodb:Scan", "Resource": documents.table}
    if documents.bucket:
        further["list the whole bucket"] = {"Action": "s3:ListBucket", "Resource": documents.bucket}
    if documents.secrets:
        further["read every tenant's key"] = {
            "Action": "secretsmanager:GetSecretValue",
            "Resource": f"{documents.secrets}*",
        }
        further["list every tenant's keys"] = {"Action": "secretsmanager:ListSecrets", "Resource": "*"}
    if documents.tokens:
        further["get tokens of any provider"] = {
            "Action": "bedrock-agentcore:GetResourceOauth2Token",
            "Resource": documents.tokens.vault + "/oauth2credentialprovider/*",
        }
        further["read its client's secret itself"] = {
            "Action": "secretsmanager:GetSecretValue",
            "Resource": documents.tokens.secret + "-??????",
        }
        # To name a user is denied besides, where the role is the runtime's own.
        further["get tokens for no user"] = {
            "Action": "bedrock-agentcore:GetWorkloadAccessToken",
            "Resource": [documents.tokens.directory, documents.tokens.workload],
        }
    if documents.knowledge:
        further |= _further_on_knowledge(documents.knowledge)
    for name, statement in further.items():
        role = _add_statement(documents.tenant, {"Effect": "Allow", **statement})
        yield Mutant(f"further statement: {name}", replace(documents, tenant=role), "verdict")


def _further_on_knowledge(knowledge: Knowledge) -> dict[str, Statement]:
    further: dict[str, Statement] = {
        "list every document": {"Action": "bedrock:ListKnowledgeBaseDocuments", "Resource": knowledge.base},
        "query the vectors": {"Action": "s3vectors:QueryVectors", "Resource": knowledge.index},
        "list all of the documents' bucket": {"Action": "s3:ListBucket", "Resource": knowledge.documents},
    }
    if knowledge.function:
        further["ask the shared knowledge base"] = {"Action": "bedrock:Retrieve", "Resource": knowledge.base}
        further["write to the shared knowledge base"] = {
            "Action": ["bedrock:IngestKnowledgeBaseDocuments", "bedrock:StartIngestionJob"],
            "Resource": knowledge.base,
        }
    return further


# --- The tenant role's trust policy ---------------------------------------------------------------


def _of_tenant_trust(documents: Documents) -> Iterator[Mutant]:
    role = documents.tenant
    changes = _trust_in_runtime if documents.own_runtime else _trust_changes
    for number, original in enumerate(as_list(role.trust["Statement"])):
        for name, changed, seen in changes(deepcopy(dict(original)), documents):
            trust = deepcopy(dict(role.trust))
            trust["Statement"] = as_list(trust["Statement"])
            trust["Statement"][number] = changed
            mutated = replace(documents, tenant=replace(role, trust=trust))
            yield Mutant(f"trust: {name}", mutated, seen)
    for name, principal in _further_principals(documents).items():
        for tags, actions in (("", [*ASSUME_WITH_TAGS]), (", without tags", ["sts:AssumeRole"])):
            mutated = replace(documents, tenant=_trusting(role, principal, actions))
            yield Mutant(f"trust: also {name}{tags}", mutated, "verdict")


def _trust_changes(statement: Statement, documents: Documents) -> Iterator[Change]:
    for operator, key in _conditions(statement):
        value = statement["Condition"][operator][key]
        yield f"without {operator} {key}", _drop(statement, operator, key), "verdict"
        if operator == "Null":
            continue
        if operator.startswith("ForAllValues:"):
            weaker = operator.replace("ForAllValues:", "ForAnyValue:")
            yield f"{weaker} {key}", _move(statement, operator, key, weaker), "verdict"
            wider = [*as_list(value), "Tier"]
            yield f"{key} also Tier", _move(statement, operator, key, operator, wider), "verdict"
        else:
            changed = _move(statement, operator, key, operator + "IfExists")
            yield f"{operator}IfExists {key}", changed, "verdict"
            changed = _move(statement, operator, key, "StringLike", "*")
            yield f"any {key}", changed, "verdict"
    anyone = {**statement, "Principal": "*"}
    yield "anyone", anyone, "verdict"
    account = {"AWS": f"arn:aws:iam::{documents.account}:root"}
    widened = {**statement, "Principal": account, "Action": [*ASSUME_WITH_TAGS]}
    yield "the account's root", widened, "verdict"
    yield "sts:*", {**statement, "Action": "sts:*"}, "text"
    yield (
        "without sts:TagSession",
        {**statement, "Action": as_list(statement["Action"])[0]},
        "verdict",
    )


def _trust_in_runtime(statement: Statement, documents: Documents) -> Iterator[Change]:
    who = statement["Principal"]["Service"]
    # Lambda names no source that a condition could ask for.
    if who != LAMBDA:
        yield "any account's runtime", {key: value for key, value in statement.items() if key != "Condition"}, "verdict"
    yield f"anyone for {who}", {**statement, "Principal": "*"}, "text"
    yield f"sts:* for {who}", {**statement, "Action": "sts:*"}, "text"
    yield f"with session tags for {who}", {**statement, "Action": [*ASSUME_WITH_TAGS]}, "text"


def _further_principals(documents: Documents) -> Mapping[str, Any]:
    principals: dict[str, Any] = {
        "everybody": "*",
        "the account's root": {"AWS": f"arn:aws:iam::{documents.account}:root"},
        "the tenant role itself": {"AWS": documents.tenant.arn},
        "a service": {"Service": "ec2.amazonaws.com"},
    }
    if documents.execution:
        principals["the shared runtime"] = {"AWS": documents.execution.arn}
    if documents.tenants:
        principals["another tenant's role"] = {"AWS": documents.tenants[0].arn}
    return principals


# --- The roles around -----------------------------------------------------------------------------


def _of_the_roles_around(documents: Documents) -> Iterator[Mutant]:
    for name, role in (("execution", documents.execution), ("vending", documents.vending)):
        if role is None:
            continue
        for change, changed in _changes_around(role, documents):
            changes: dict[str, Any] = {name: changed}
            yield Mutant(f"{name} role: {change}", replace(documents, **changes), "verdict")
    if documents.knowledge is None:
        return
    for name, role in (
        ("service_role", documents.knowledge.service_role),
        ("function_role", documents.knowledge.function_role),
    ):
        if role is None:
            continue
        for change, changed in _changes_around(role, documents):
            if (name, change) == ("function_role", "reads the registry"):
                continue  # in some variants it does, which `test_stacks.py` pins
            changes = {name: changed}
            knowledge = replace(documents.knowledge, **changes)
            yield Mutant(f"knowledge {name}: {change}", replace(documents, knowledge=knowledge), "verdict")


def _of_data_operations(documents: Documents) -> Iterator[Mutant]:
    # Their statements name the tenant by the session's tag in every variant.
    shared = replace(documents, tenant=replace(documents.tenant, tenant=None))
    unseen = {"dynamodb": documents.table is None, "s3": documents.bucket is None}
    for number, original in enumerate(statements(documents.data.policies)):
        about_exports = documents.exports in str(original.get("Resource"))
        if unseen.get(as_list(original["Action"])[0].partition(":")[0]) and not about_exports:
            continue  # tenants share none, and the documents of those that have their own kill its mutants
        for change in (_without_a_condition, _with_a_wider_value):
            for name, changed, seen in change(deepcopy(dict(original)), shared):
                role = _replace_statement(documents.data, number, changed)
                label = f"data role: {original['Sid']} {number}: {name}"
                yield Mutant(label, replace(documents, data=role), seen)
    for name, role in (("data", documents.data), ("upkeep", documents.upkeep)):
        account = {"AWS": f"arn:aws:iam::{documents.account}:root"}
        actions = ["sts:AssumeRole", "sts:TagSession"] if name == "data" else ["sts:AssumeRole"]
        changes: dict[str, Any] = {name: _trusting(role, account, actions)}
        yield Mutant(f"{name} role: trusts the account", replace(documents, **changes), "verdict")
    for name, action in (
        ("reads events", "bedrock-agentcore:ListEvents"),
        ("reads records", "bedrock-agentcore:GetMemoryRecord"),
    ):
        statement = {"Effect": "Allow", "Action": action, "Resource": documents.memory}
        yield Mutant(
            f"upkeep role: {name}", replace(documents, upkeep=_add_statement(documents.upkeep, statement)), "verdict"
        )
    if documents.knowledge and documents.knowledge_upkeep:
        for name, statement in {
            "adds documents": {"Action": "bedrock:IngestKnowledgeBaseDocuments", "Resource": documents.knowledge.base},
            "reads vectors": {"Action": "s3vectors:GetVectors", "Resource": documents.knowledge.index},
            "reads documents": {"Action": "s3:GetObject", "Resource": f"{documents.knowledge.documents}/*"},
        }.items():
            role = _add_statement(documents.knowledge_upkeep, {"Effect": "Allow", **statement})
            yield Mutant(f"knowledge upkeep role: {name}", replace(documents, knowledge_upkeep=role), "verdict")
        account = {"AWS": f"arn:aws:iam::{documents.account}:root"}
        role = _trusting(documents.knowledge_upkeep, account, ["sts:AssumeRole"])
        mutant = replace(documents, knowledge_upkeep=role)
        yield Mutant("knowledge upkeep role: trusts the account", mutant, "verdict")


def _changes_around(role: Role, documents: Documents) -> Iterator[tuple[str, Role]]:
    for name, action, resource in (
        ("reads memory", "bedrock-agentcore:ListEvents", documents.memory),
        ("reads the registry", "dynamodb:GetItem", documents.registry),
        ("calls models", "bedrock:InvokeModel", "*"),
    ):
        statement = {"Effect": "Allow", "Action": action, "Resource": resource}
        yield name, _add_statement(role, statement)
    account = {"AWS": f"arn:aws:iam::{documents.account}:root"}
    yield "trusts the account", _trusting(role, account, "sts:AssumeRole")
    unconditional = [
        {key: value for key, value in statement.items() if key != "Condition"}
        for statement in as_list(role.trust["Statement"])
    ]
    if unconditional != as_list(role.trust["Statement"]):
        trust = {**role.trust, "Statement": unconditional}
        yield "works for any account", replace(role, trust=trust)


# --- Edits of documents ---------------------------------------------------------------------------


def _conditions(statement: Statement) -> list[tuple[str, str]]:
    block = statement.get("Condition", {})
    return [(operator, key) for operator, keys in block.items() for key in keys]


def _drop(statement: Statement, operator: str, key: str) -> Statement:
    changed = deepcopy(statement)
    del changed["Condition"][operator][key]
    if not changed["Condition"][operator]:
        del changed["Condition"][operator]
    return changed


def _move(statement: Statement, operator: str, key: str, target: str, value: Any = None) -> Statement:
    """The condition on `key` under another operator, with another value if one is given."""
    kept = statement["Condition"][operator][key] if value is None else value
    changed = _drop(statement, operator, key)
    changed["Condition"].setdefault(target, {})[key] = kept
    return changed


def _renamed(statement: Statement, element: str, target: str, value: Any) -> Statement:
    return {**{key: text for key, text in statement.items() if key != element}, target: value}


def _substituted(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {key: _substituted(part, old, new) for key, part in value.items()}
    if isinstance(value, list):
        return [_substituted(part, old, new) for part in value]
    return value.replace(old, new) if isinstance(value, str) else value


def _replace_statement(role: Role, number: int, changed: Statement) -> Role:
    """The role with its statement `number`, counted over all policies, replaced."""
    policies, position = [], 0
    for policy in role.policies:
        kept = []
        for statement in as_list(policy["Statement"]):
            kept.append(changed if position == number else statement)
            position += 1
        policies.append({**policy, "Statement": kept})
    return replace(role, policies=tuple(policies))


def _add_statement(role: Role, statement: Statement) -> Role:
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    return replace(role, policies=(*role.policies, policy))


def _trusting(role: Role, principal: Any, actions: str | list[str]) -> Role:
    statement = {"Effect": "Allow", "Principal": principal, "Action": actions}
    trust = {**role.trust, "Statement": [*as_list(role.trust["Statement"]), statement]}
    return replace(role, trust=trust)
