"""Layer one: what the policies may hold at all, whatever the verdicts.

Some holes leak nothing by themselves: a Scan that no condition admits yet, a variable's default
that a guard still shadows. They are one edit away from a leak: their presence is the violation.
"""

import json
import re
from collections.abc import Iterator, Mapping

from local.iam import Policy, as_list

from .documents import TENANT_KEY, Documents, Role, statements

KNOWLEDGE: frozenset[str] = frozenset(
    {
        "bedrock:DeleteKnowledgeBaseDocuments",
        "bedrock:GetKnowledgeBaseDocuments",
        "bedrock:IngestKnowledgeBaseDocuments",
        "bedrock:Retrieve",
        "bedrock:StartIngestionJob",
    }
)

ALLOWED: Mapping[str, frozenset[str]] = {
    # A tenant reads its own standing. Who else writes there is the control plane.
    "registry": frozenset({"dynamodb:GetItem"}),
    # It takes from its own budget, and sees in the ledger what it used. Who writes there is the ledger's function.
    "quotas": frozenset({"dynamodb:UpdateItem"}),
    "ledger": frozenset({"dynamodb:BatchGetItem"}),
    "dynamodb": frozenset(
        {
            "dynamodb:BatchGetItem",
            "dynamodb:BatchWriteItem",
            "dynamodb:ConditionCheckItem",
            "dynamodb:DeleteItem",
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
        }
    ),
    "s3": frozenset({"s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"}),
    "memory": frozenset(
        {
            "bedrock-agentcore:CreateEvent",
            "bedrock-agentcore:DeleteEvent",
            "bedrock-agentcore:GetEvent",
            "bedrock-agentcore:ListEvents",
            "bedrock-agentcore:ListMemoryRecords",
            "bedrock-agentcore:ListSessions",
            "bedrock-agentcore:RetrieveMemoryRecords",
        }
    ),
    "documents": frozenset({"s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"}),
    # Where tenants share a knowledge base, this is all: the function verifies a token and asks it for one tenant.
    "knowledge_function": frozenset({"lambda:InvokeFunction"}),
    # Where a tenant has its own. No condition key tells anything below a knowledge base: it is all or nothing.
    "knowledge_base": KNOWLEDGE,
    # The key that the tenant calls a third party with. Who writes it is an operator.
    "outbound": frozenset({"secretsmanager:GetSecretValue"}),
    # Tokens of a third party, for the user whose token is shown. Nobody is named.
    "tokens": frozenset({"bedrock-agentcore:GetResourceOauth2Token", "bedrock-agentcore:GetWorkloadAccessTokenForJWT"}),
    # Read by AgentCore in the tenant's name, and never by the tenant itself.
    "client": frozenset({"secretsmanager:GetSecretValue"}),
    "model": frozenset({"bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"}),
    "guardrail": frozenset({"bedrock:ApplyGuardrail"}),
}
"""What a tenant may do, by component. Every action here has a key or a resource to bind it by."""

NEVER: Mapping[str, str] = {
    "dynamodb:Scan": "reads every partition: no leading key",
    "dynamodb:PartiQL*": "a statement without the partition key scans",
    "dynamodb:ExportTableToPointInTime": "copies every partition",
    "bedrock-agentcore:ListActors": "names every tenant's actors: no condition key",
    "bedrock-agentcore:GetMemoryRecord": "reads any record by its id: no condition key",
    "bedrock-agentcore:DeleteMemoryRecord": "deletes any record by its id: no condition key",
    "bedrock-agentcore:BatchDeleteMemoryRecords": "deletes any record by its id: no condition key",
    # One call names several namespaces; which of them the condition key holds is not documented.
    "bedrock-agentcore:BatchCreateMemoryRecords": "several namespaces, one condition value",
    "bedrock-agentcore:BatchUpdateMemoryRecords": "several namespaces, one condition value",
    "bedrock-agentcore:ListMemoryExtractionJobs": "lists every tenant's jobs: no condition key",
    "bedrock-agentcore:IngestData": "no condition key",
    "bedrock-agentcore:GetWorkloadAccessTokenForUserId": "for any user that the caller names",
    "bedrock-agentcore:GetWorkloadAccessToken": "for no user: what it gets is the workload's, whoever asks",
    "bedrock:ListKnowledgeBaseDocuments": "lists every tenant's documents: no condition key",
    "bedrock:RetrieveAndGenerate": "its filter is the caller's: nothing checks what comes back",
    "secretsmanager:ListSecrets": "names every tenant's secrets: no resource to bind it by",
    "s3vectors:*": "no condition on metadata: an index is all or nothing",
}
"""What no tenant role may ever do, and why. The allow-list can't be extended by these.

Source: Service Authorization Reference, DynamoDB, Bedrock AgentCore, Bedrock and S3 Vectors, condition keys by action.
"""

EXECUTION: frozenset[str] = frozenset(
    {
        "cloudwatch:PutMetricData",
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:DescribeLogGroups",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
        # Where traces are exported.
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    }
)
"""What the runtime's own role may do: all code in the runtime can do it, for any tenant.

On which resources, and under which conditions, is pinned in `test_stacks.py`.
"""

DATA_OPERATIONS: Mapping[str, frozenset[str]] = {
    "dynamodb": frozenset({"dynamodb:BatchWriteItem", "dynamodb:Query"}),
    "quotas": frozenset({"dynamodb:BatchWriteItem", "dynamodb:Query"}),
    "s3": frozenset({"s3:DeleteObjectVersion", "s3:GetObject", "s3:ListBucketVersions"}),
    "documents": frozenset({"s3:DeleteObjectVersion", "s3:GetObject", "s3:ListBucketVersions"}),
    "exports": frozenset({"s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject"}),
    "outbound": frozenset({"secretsmanager:DeleteSecret", "secretsmanager:DescribeSecret"}),
    "own_tokens": frozenset(
        {"bedrock-agentcore:DeleteOauth2CredentialProvider", "bedrock-agentcore:GetOauth2CredentialProvider"}
    ),
    "memory": frozenset(
        {
            "bedrock-agentcore:DeleteEvent",
            "bedrock-agentcore:ListEvents",
            "bedrock-agentcore:ListMemoryRecords",
            "bedrock-agentcore:ListSessions",
        }
    ),
}
"""What exporting and deleting a tenant's data takes, by component, each bound to the session's tag."""

UPKEEP = frozenset({"bedrock-agentcore:BatchDeleteMemoryRecords", "bedrock-agentcore:ListActors"})
"""What the role for calls without a condition key may do: of `NEVER`, these two alone."""

KNOWLEDGE_UPKEEP = (KNOWLEDGE | {"bedrock:ListKnowledgeBaseDocuments"}) - {"bedrock:IngestKnowledgeBaseDocuments"}
"""What the role may do that takes a tenant out of a shared knowledge base: it adds nothing."""

STACKS = frozenset({"bedrock:UpdateDataSource", "s3:GetBucketPolicy", "s3:ListBucket", "s3:PutBucketPolicy"})
"""What CloudFormation's role may do with tenants' own components, of what the matrix asks: it makes them."""

INVOKE = frozenset({"lambda:InvokeFunction"})

GATEWAY = INVOKE | {
    "bedrock-agentcore:AuthorizeAction",
    "bedrock-agentcore:GetPolicyEngine",
    "bedrock-agentcore:PartiallyAuthorizeActions",
}
"""What a tenant's own gateway may do, on which resources stands in `test_stacks.py`."""

ASSUME_WITH_TOKEN = frozenset({"sts:AssumeRoleWithWebIdentity", "sts:TagSession"})
ASSUME_WITH_TAGS = frozenset({"sts:AssumeRole", "sts:TagSession"})

VENDING = ASSUME_WITH_TAGS | {"logs:CreateLogStream", "logs:PutLogEvents"}
"""What the credentials function may do."""

KNOWLEDGE_FUNCTION = KNOWLEDGE | {"dynamodb:GetItem", "logs:CreateLogStream", "logs:PutLogEvents"}
"""What the knowledge function may do; it reads the registry where that says which pool a token is of."""

KNOWLEDGE_SERVICE = frozenset(
    {
        "bedrock:InvokeModel",
        "s3:GetObject",
        "s3vectors:DeleteVectors",
        "s3vectors:GetIndex",
        "s3vectors:GetVectors",
        "s3vectors:PutVectors",
        "s3vectors:QueryVectors",
    }
)
"""What Bedrock may do for a knowledge base."""

SECRET_SUFFIX = "-??????"
"""What Secrets Manager puts behind a secret's name, in a policy: neither more nor fewer characters."""

ALL_OR_NOTHING = frozenset({"model", "guardrail", "knowledge_function", "knowledge_base", "tokens", "client"})
"""Components without a key to bind a call by: they hold nobody's data, ask for a token, or are one tenant's own."""


def violations(documents: Documents) -> Iterator[str]:
    """What is wrong with the policies' text, one line each."""
    for statement in tenant_statements(documents):
        label = statement.get("Sid", "statement without Sid")
        for text in _tenant(statement, documents):
            yield f"{documents.tenant.name}: {label}: {text}"
    if documents.execution:
        yield from _grants(documents.execution, EXECUTION | (INVOKE if documents.vending else set()))
    if documents.vending:
        yield from _grants(documents.vending, VENDING)
    yield from _grants(documents.data, frozenset().union(*DATA_OPERATIONS.values()))
    yield from _grants(documents.upkeep, UPKEEP)
    for statement in statements(documents.data.policies):
        yield from (f"{documents.data.name}: {statement.get('Sid')}: {text}" for text in _guards(statement))
    if documents.knowledge:
        yield from _grants(documents.knowledge.service_role, KNOWLEDGE_SERVICE)
        if documents.knowledge.function_role:
            yield from _grants(documents.knowledge.function_role, KNOWLEDGE_FUNCTION)
    if documents.knowledge_upkeep:
        yield from _grants(documents.knowledge_upkeep, KNOWLEDGE_UPKEEP)
    for statement in as_list(documents.tenant.trust["Statement"]):
        for text in _trust(statement, documents):
            yield f"{documents.tenant.name}: trust: {text}"


def tenant_statements(documents: Documents) -> list[Policy]:
    """The tenant role's statements; without those that are for the runtime itself, where it is the tenant's own."""
    own = statements(documents.tenant.policies)
    if not documents.own_runtime:
        return own
    return [
        statement
        for statement in own
        if statement["Effect"] == "Allow" and not EXECUTION.issuperset(as_list(statement.get("Action", "NotAction")))
    ]


def component_of(resource: str, documents: Documents) -> str | None:
    """The component that an ARN or ARN pattern of a policy belongs to, None when to none."""
    exact = {
        documents.registry: "registry",
        documents.quotas: "quotas",
        documents.ledger: "ledger",
        documents.memory: "memory",
        documents.table: "dynamodb",
        documents.bucket: "s3",
    }
    knowledge = documents.knowledge
    if knowledge:
        exact[knowledge.documents] = "documents"
        exact[knowledge.function or knowledge.base] = "knowledge_function" if knowledge.function else "knowledge_base"
    if resource in exact:
        return exact[resource]
    if knowledge and resource.startswith(knowledge.documents + "/"):
        return "documents"
    tokens = documents.tokens
    if tokens and resource in (tokens.vault, tokens.directory, tokens.client, tokens.workload):
        return "tokens"
    if tokens and resource == tokens.secret + SECRET_SUFFIX:
        return "client"
    if documents.secrets is not None and resource.startswith(documents.secrets):
        return "outbound"
    if documents.bucket is not None and resource.startswith(documents.bucket + "/"):
        return "s3"
    bedrock = re.match(r"arn:[^:]+:bedrock:[^:]*:[^:]*:(?P<kind>[a-z-]+)/", resource)
    if bedrock is None or bedrock["kind"] not in ("foundation-model", "guardrail", "inference-profile"):
        return None
    return "guardrail" if bedrock["kind"] == "guardrail" else "model"


def _tenant(statement: Policy, documents: Documents) -> Iterator[str]:
    if statement["Effect"] == "Deny":
        return
    for element in ("NotAction", "NotResource"):
        if element in statement:
            yield f"{element} grants what nobody listed"
    actions = as_list(statement.get("Action", []))
    resources = as_list(statement.get("Resource", []))
    components = {component_of(resource, documents) for resource in resources}
    for action in actions:
        yield from _tenant_action(action, components)
    for resource in resources:
        yield from _tenant_resource(resource, documents)
    yield from _variables(statement, documents)
    yield from _guards(statement)
    if not components <= ALL_OR_NOTHING and not _is_bound(statement, documents):
        yield "neither every resource nor a condition names the tenant"


def _tenant_action(action: str, components: set[str | None]) -> Iterator[str]:
    reason = next((why for pattern, why in NEVER.items() if _like(pattern, action)), None)
    if "*" in action or "?" in action:
        yield f"{action} is a wildcard"
    elif reason is not None:
        yield f"{action}: {reason}"
    else:
        for component in components:
            if action not in ALLOWED.get(component or "", ()):
                yield f"{action} is not in the allow-list of {component or 'an unknown resource'}"


def _tenant_resource(resource: str, documents: Documents) -> Iterator[str]:
    component = component_of(resource, documents)
    if component in ("outbound", "client"):
        resource = resource.removesuffix(SECRET_SUFFIX)
    below = resource.partition(f"tenants/{documents.tenant_text}/")
    if component is None:
        yield f"{resource} is no component of this service"
    # Inference profiles route to other Regions: their models' ARNs may leave the Region open.
    elif component == "model" and "*" in resource.split(":", 5)[5]:
        yield f"{resource} leaves the model open"
    elif component != "model" and ("*" in below[0] or "?" in resource):
        yield f"{resource} has a wildcard outside of the tenant's own prefix"


def _variables(statement: Policy, documents: Documents) -> Iterator[str]:
    text, tenant = json.dumps(statement), documents.tenant_text
    for variable in sorted(set(re.findall(r"\$\{[^}]*\}", text)) - {tenant}):
        yield f"{variable}: the tenant is named by {tenant} alone, without a default"
    conditions = [found for keys in statement.get("Condition", {}).values() for found in keys.values()]
    values = [str(value) for found in conditions for value in as_list(found)]
    # The name of a tenant's own resource may hold the tenant's id anywhere; what counts is what follows it.
    resources = as_list(statement.get("Resource", []))
    values += [resource.rpartition("tenants/")[2] for resource in resources if "tenants/" in resource]
    if any(re.search(re.escape(tenant) + r"[^:/]", value) for value in values):
        yield f"{tenant} is followed by neither : nor / nor the end: other tenants' ids begin alike"


def _guards(statement: Policy) -> Iterator[str]:
    conditions = statement.get("Condition", {})
    guards = {key: str(value).lower() for key, value in conditions.get("Null", {}).items()}
    if guards.get(TENANT_KEY) != "false":
        yield f"no Null guard on {TENANT_KEY}"
    for operator, keys in conditions.items():
        if operator.endswith("IfExists"):
            yield f"{operator} passes a missing key"
        if operator.startswith("ForAllValues:"):
            for key in keys:
                if guards.get(key) != "false":
                    yield f"{operator} on {key} has no Null guard: it passes a missing key"


def _is_bound(statement: Policy, documents: Documents) -> bool:
    if all(documents.names_tenant(resource) for resource in as_list(statement.get("Resource", ""))):
        return True
    return any(
        all(documents.names_tenant(value) for value in as_list(values))
        for operator, keys in statement.get("Condition", {}).items()
        if re.fullmatch(r"(ForAllValues:)?String(Equals|Like)", operator)
        for values in keys.values()
    )


def _grants(role: Role, allowed: frozenset[str]) -> Iterator[str]:
    for statement in statements(role.policies):
        if statement["Effect"] == "Allow":
            for action in as_list(statement.get("Action", "NotAction")):
                if action not in allowed:
                    yield f"{role.name}: {action} is not in its allow-list"


def _trust(statement: Policy, documents: Documents) -> Iterator[str]:
    allowed = ASSUME_WITH_TAGS if documents.vending else ASSUME_WITH_TOKEN
    if documents.own_runtime:
        allowed = frozenset({"sts:AssumeRole"})
        trusted = [{"Service": service} for service in documents.own_services]
        if statement.get("Principal") not in trusted:
            yield "somebody else than AgentCore is trusted, or Lambda for the functions behind the own gateway"
    for action in as_list(statement.get("Action", "NotAction")):
        if action not in allowed:
            yield f"{action} is not in the allow-list"


def _like(pattern: str, action: str) -> bool:
    return action == pattern or (pattern.endswith("*") and action.startswith(pattern[:-1]))


def never(action: str) -> bool:
    """Whether `action` is one that no tenant role may ever do."""
    return any(_like(pattern, action) for pattern in NEVER)
