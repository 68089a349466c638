"""Layer two: who reaches what. Every action on data is asked for own data and for others'."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from local.iam import Request, as_list, evaluate

from .allow_list import ALLOWED, DATA_OPERATIONS, KNOWLEDGE, KNOWLEDGE_UPKEEP, STACKS, UPKEEP
from .documents import TENANT_KEY, Documents, Role, statements

Context = Mapping[str, str | Sequence[str]]

CALLERS: Mapping[str, Context] = {
    "acme": {TENANT_KEY: "acme"},
    "no tag": {},
    "an empty tag": {TENANT_KEY: ""},
    "the tag *": {TENANT_KEY: "*"},
}
"""Session tags by caller. Only acme may ever be let through, and only to what is its own.

A role of a tenant's own is asked in that tenant's name, with the tag that the role itself has; `acme` stands for it.
"""


@dataclass(frozen=True)
class Row:
    """One line of the matrix: what acme is told. Every other caller is denied on every line.

    Attributes:
        name: whose data it is, seen from acme.
        resource: ARN, with the names of `Documents` in braces.
        context: condition keys of the request besides the session's tags.
    """

    name: str
    resource: str
    context: Context = field(default_factory=dict)
    allowed: bool = False


@dataclass(frozen=True)
class Table:
    """The lines that hold for each of these actions, and the callers that they are asked for."""

    component: str
    actions: Sequence[str]
    rows: Sequence[Row]
    callers: Sequence[str] = tuple(CALLERS)


def _leading(*keys: str) -> Context:
    return {"dynamodb:LeadingKeys": keys}


def _item_rows(table: str, other_table: str) -> Sequence[Row]:
    return (
        Row("own", table, _leading("TENANT#acme"), allowed=True),
        Row("another tenant's", table, _leading("TENANT#globex")),
        Row("prefix twin's", table, _leading("TENANT#acme2")),
        Row("prefix twin's with a hyphen", table, _leading("TENANT#acme-eu")),
        Row("below the own key", table, _leading("TENANT#acme#x")),
        Row("own and another tenant's", table, _leading("TENANT#acme", "TENANT#globex")),
        Row("own and prefix twin's", table, _leading("TENANT#acme2", "TENANT#acme")),
        Row("nobody's", table, _leading("TENANT#")),
        Row("no key", table),
        Row("own, in a table that is not this service's", other_table, _leading("TENANT#acme")),
        Row("own, in an index", f"{table}/index/any", _leading("TENANT#acme")),
    )


def _actor(actor: str) -> Context:
    return {"bedrock-agentcore:actorId": actor, "bedrock-agentcore:sessionId": "a-session"}


def _namespaces(key: str) -> Sequence[Row]:
    name, key = key, f"bedrock-agentcore:{key}"
    return (
        Row(f"own {name}", "{memory}", {key: "/actors/acme:user/preferences/"}, allowed=True),
        Row(f"another tenant's {name}", "{memory}", {key: "/actors/globex:user/preferences/"}),
        Row(f"prefix twin's {name}", "{memory}", {key: "/actors/acme2:user/preferences/"}),
        Row(f"{name} of a tenant without users", "{memory}", {key: "/actors/acme"}),
        Row(f"{name} of all actors", "{memory}", {key: "/actors/"}),
        Row(f"{name} of everything", "{memory}", {key: "/"}),
        Row(f"{name} of nobody", "{memory}", {key: "/actors/:user/preferences/"}),
        Row(f"own {name} in another memory", "{memory}2", {key: "/actors/acme:user/x/"}),
    )


def _object_rows(bucket: str) -> Sequence[Row]:
    return (
        Row("own", f"{bucket}/tenants/acme/reports/1", allowed=True),
        Row("another tenant's", f"{bucket}/tenants/globex/reports/1"),
        Row("prefix twin's", f"{bucket}/tenants/acme2/reports/1"),
        Row("prefix twin's with a hyphen", f"{bucket}/tenants/acme-eu/reports/1"),
        Row("own name, below another tenant", f"{bucket}/tenants/globex/tenants/acme/1"),
        Row("nobody's", f"{bucket}/tenants//reports/1"),
        Row("no prefix", f"{bucket}/reports/1"),
        Row("own, in a bucket that is not this service's", f"{bucket}2/tenants/acme/1"),
    )


def _list_rows(bucket: str) -> Sequence[Row]:
    return (
        Row("own", bucket, {"s3:prefix": "tenants/acme/"}, allowed=True),
        Row("below the own prefix", bucket, {"s3:prefix": "tenants/acme/r"}, allowed=True),
        Row("another tenant's", bucket, {"s3:prefix": "tenants/globex/"}),
        Row("prefix twin's", bucket, {"s3:prefix": "tenants/acme2/"}),
        Row("own without the slash, twins included", bucket, {"s3:prefix": "tenants/acme"}),
        Row("every tenant's", bucket, {"s3:prefix": "tenants/"}),
        Row("the empty prefix", bucket, {"s3:prefix": ""}),
        Row("nobody's", bucket, {"s3:prefix": "tenants//"}),
        Row("no prefix", bucket),
        Row("own, in another bucket", f"{bucket}2", {"s3:prefix": "tenants/acme/"}),
    )


def _secret_rows(*, tagged: bool) -> Sequence[Row]:
    """`tagged`: whether the secret's tag has to say the same as its name."""

    def row(name: str, secret: str, tag: str | None = None, *, allowed: bool = False) -> Row:
        return Row(name, "{secrets}" + secret, {_SECRET_TAG: tag} if tag is not None else {}, allowed)

    return (
        row("own", "acme/issue_tracker-AbC123", "acme", allowed=True),
        row("own, which is not there", "acme/issue_tracker", allowed=True),
        row("own without a tag", "acme/issue_tracker-AbC123", allowed=not tagged),
        row("own, tagged as another tenant's", "acme/issue_tracker-AbC123", "globex", allowed=not tagged),
        row("own, tagged as the prefix twin's", "acme/issue_tracker-AbC123", "acme2", allowed=not tagged),
        row("own, of another name", "acme/other-AbC123", "acme"),
        row("own, of a longer name", "acme/issue_tracker-more-AbC123", "acme"),
        row("own, with seven characters behind it", "acme/issue_tracker-AbC1234", "acme"),
        row("another tenant's", "globex/issue_tracker-AbC123", "globex"),
        row("another tenant's, tagged as the own", "globex/issue_tracker-AbC123", "acme"),
        row("another tenant's, which is not there", "globex/issue_tracker"),
        row("prefix twin's", "acme2/issue_tracker-AbC123", "acme2"),
        row("prefix twin's, tagged as the own", "acme2/issue_tracker-AbC123", "acme"),
        row("prefix twin's with a hyphen", "acme-eu/issue_tracker-AbC123", "acme-eu"),
        row("prefix twin's with a hyphen and six characters", "acme-abcdef/issue_tracker-AbC123", "acme"),
        row("nobody's", "/issue_tracker-AbC123", ""),
        Row("own, of another service", "{secrets_of_another}acme/issue_tracker-AbC123",
            {_SECRET_TAG: "acme"}),
    )  # fmt: skip


_SECRET_TAG = "secretsmanager:ResourceTag/TenantId"
# What more than one role may use, since it is nobody's.
_FOR_ALL = ("model", "knowledge_function", "token_service")
_OBJECT_ACTIONS = ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObject", "s3:PutObject")
_LIST_ACTIONS = ("s3:ListBucket", "s3:ListBucketVersions")

TABLES: Sequence[Table] = (
    Table("dynamodb", sorted(ALLOWED["dynamodb"]), _item_rows("{table}", "{table}2")),
    Table("registry", ("dynamodb:GetItem",), _item_rows("{registry}", "{registry}2")),
    Table(
        "registry",
        (
            "dynamodb:BatchWriteItem",
            "dynamodb:DeleteItem",
            "dynamodb:PutItem",
            "dynamodb:Query",
            "dynamodb:UpdateItem",
        ),
        (Row("own standing, to write or to search", "{registry}", _leading("TENANT#acme")),),
    ),
    Table("quotas", ("dynamodb:UpdateItem",), _item_rows("{quotas}", "{quotas}2")),
    Table(
        "quotas",
        ("dynamodb:BatchWriteItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"),
        (Row("own counters, to replace or to read", "{quotas}", _leading("TENANT#acme")),),
    ),
    Table("ledger", ("dynamodb:BatchGetItem",), _item_rows("{ledger}", "{ledger}2")),
    Table(
        "ledger",
        ("dynamodb:BatchWriteItem", "dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"),
        (Row("own sums, to write", "{ledger}", _leading("TENANT#acme")),),
    ),
    Table("s3", _OBJECT_ACTIONS, _object_rows("{bucket}")),
    Table("s3", _LIST_ACTIONS, _list_rows("{bucket}")),
    Table("documents", _OBJECT_ACTIONS, _object_rows("{documents}")),
    Table("documents", _LIST_ACTIONS, _list_rows("{documents}")),
    Table(
        "knowledge_function",
        ("lambda:InvokeFunction",),
        (
            Row("the knowledge function", "{knowledge_function}", allowed=True),
            Row("another function", "{knowledge_function}2"),
        ),
        # It asks for a token: any tag will do, and trust sees to it that it is a tenant's.
        callers=("acme", "no tag"),
    ),
    Table(
        "knowledge_base",
        sorted(KNOWLEDGE),
        (Row("own documents", "{knowledge_base}", allowed=True), Row("another's documents", "{knowledge_base}2")),
    ),
    Table("shared_knowledge_base", sorted(KNOWLEDGE), (Row("every tenant's documents", "{knowledge_base}"),)),
    Table(
        "documents",
        (
            "bedrock:AgenticRetrieveStream",
            "bedrock:GetDocumentContent",
            "bedrock:ListKnowledgeBaseDocuments",
            "bedrock:PutResourcePolicy",
            "bedrock:RetrieveAndGenerate",
            "bedrock:UpdateDataSource",
        ),
        (Row("every tenant's", "{knowledge_base}"),),
    ),
    Table(
        "vectors",
        tuple(f"s3vectors:{action}Vectors" for action in ("Delete", "Get", "List", "Put", "Query")),
        (Row("every tenant's", "{index}"),),
    ),
    Table(
        "memory",
        (
            "bedrock-agentcore:CreateEvent",
            "bedrock-agentcore:DeleteEvent",
            "bedrock-agentcore:GetEvent",
            "bedrock-agentcore:ListEvents",
            "bedrock-agentcore:ListSessions",
        ),
        (
            Row("own actor's", "{memory}", _actor("acme:user"), allowed=True),
            Row("another tenant's actor's", "{memory}", _actor("globex:user")),
            Row("prefix twin's actor's", "{memory}", _actor("acme2:user")),
            Row("prefix twin's with a hyphen", "{memory}", _actor("acme-eu:user")),
            Row("an actor named like the tenant", "{memory}", _actor("acme")),
            Row("a legacy actor of the SDK", "{memory}", _actor("session_a-session")),
            Row("nobody's", "{memory}", _actor(":user")),
            Row("no actor", "{memory}"),
            Row("own actor's in another memory", "{memory}2", _actor("acme:user")),
        ),
    ),
    Table(
        "memory",
        ("bedrock-agentcore:ListMemoryRecords", "bedrock-agentcore:RetrieveMemoryRecords"),
        (
            *_namespaces("namespace"),
            *_namespaces("namespacePath"),
            Row("no namespace", "{memory}"),
            Row(
                "own namespace with another tenant's path",
                "{memory}",
                {
                    "bedrock-agentcore:namespace": "/actors/acme:user/preferences/",
                    "bedrock-agentcore:namespacePath": "/actors/globex:user/",
                },
            ),
            Row(
                "another tenant's namespace with the own path",
                "{memory}",
                {
                    "bedrock-agentcore:namespace": "/actors/globex:user/preferences/",
                    "bedrock-agentcore:namespacePath": "/actors/acme:user/",
                },
            ),
        ),
    ),
    Table("outbound", ("secretsmanager:GetSecretValue",), _secret_rows(tagged=True)),
    Table("outbound", ("secretsmanager:DeleteSecret", "secretsmanager:DescribeSecret"), _secret_rows(tagged=False)),
    Table(
        "outbound",
        tuple(
            f"secretsmanager:{action}"
            for action in ("PutResourcePolicy", "PutSecretValue", "TagResource", "UntagResource", "UpdateSecret")
        ),
        (Row("own, to change", "{secrets}acme/issue_tracker-AbC123", {_SECRET_TAG: "acme"}),),
    ),
    Table(
        "token_service",
        ("bedrock-agentcore:GetResourceOauth2Token",),
        (Row("the vault", "{vault}", allowed=True), Row("the directory", "{directory}", allowed=True)),
        callers=("acme", "no tag"),
    ),
    Table(
        "token_service",
        ("bedrock-agentcore:GetWorkloadAccessTokenForJWT",),
        (Row("the directory", "{directory}", allowed=True),),
        callers=("acme", "no tag"),
    ),
    *(
        Table(
            f"{whose}_tokens",
            (action,),
            (
                *(Row(f"{name} of its own", resource, allowed=True) for name, resource in resources),
                *(Row(f"{name} of a tenant", f"{resource}_globex") for name, resource in resources),
                *(Row(f"{name} of a twin", f"{resource}2") for name, resource in resources),
                *(Row(f"{name} of a twin with a hyphen", f"{resource}-eu") for name, resource in resources),
                *(Row(f"any {name}", resource.replace("}", "_of_any}")) for name, resource in resources),
            ),
            callers=("acme", "no tag"),
        )
        for whose in ("own", "shared")
        for action, resources in (
            ("bedrock-agentcore:GetWorkloadAccessTokenForJWT", (("workload", "{workload}"),)),
            ("bedrock-agentcore:GetResourceOauth2Token", (("workload", "{workload}"), ("provider", "{client}"))),
        )
    ),
    *(
        Table(
            f"{whose}_tokens",
            tuple(
                f"bedrock-agentcore:{action}"
                for action in ("CreateOauth2CredentialProvider", "UpdateOauth2CredentialProvider")
            ),
            (Row("its provider, to change", "{client}"),),
        )
        for whose in ("own", "shared")
    ),
    *(
        Table(
            f"{whose}_tokens",
            ("bedrock-agentcore:DeleteOauth2CredentialProvider", "bedrock-agentcore:GetOauth2CredentialProvider"),
            (
                Row("its provider, to look at or to delete", "{client}", allowed=whose == "own"),
                Row("a twin's provider", "{client}2"),
                Row("another tenant's provider", "{client}_globex"),
            ),
        )
        for whose in ("own", "shared")
    ),
    Table(
        "token_service",
        ("bedrock-agentcore:GetWorkloadAccessToken", "bedrock-agentcore:GetWorkloadAccessTokenForUserId"),
        (Row("of anybody", "{workload}"), Row("of anybody, in the directory", "{directory}")),
    ),
    Table(
        "client",
        ("secretsmanager:GetSecretValue",),
        (
            Row("its client's, by AgentCore", "{client_secret}-AbC123", {"aws:ViaAWSService": "true"}, allowed=True),
            Row("its client's, by itself", "{client_secret}-AbC123"),
            Row("its client's, by itself, and said so", "{client_secret}-AbC123", {"aws:ViaAWSService": "false"}),
            Row("a twin's client's, by AgentCore", "{client_secret}2-AbC123", {"aws:ViaAWSService": "true"}),
            Row("another's client's, by AgentCore", "{client_secret}_globex-AbC123", {"aws:ViaAWSService": "true"}),
        ),
        callers=("acme", "no tag"),
    ),
    Table("outbound", ("secretsmanager:ListSecrets",), (Row("every tenant's", "*"),)),
    Table(
        "model",
        ("bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"),
        (
            Row("a model of the tiers", "{model}", allowed=True),
            Row("another model", "arn:aws:bedrock:{region}::foundation-model/any.other-v1:0"),
        ),
        # A model holds nobody's data: any tag will do, and trust sees to it that it is a tenant's.
        callers=("acme", "no tag"),
    ),
    # What no tenant may do: no condition key would bind it, or it is none of a tenant's business.
    Table("dynamodb", ("dynamodb:Scan",), (Row("every tenant's", "{table}"),)),
    Table(
        "dynamodb",
        ("dynamodb:PartiQLSelect", "dynamodb:PartiQLDelete", "dynamodb:ExportTableToPointInTime"),
        (Row("every tenant's", "{table}"),),
    ),
    Table("registry", ("dynamodb:Scan",), (Row("every tenant's", "{registry}"),)),
    Table("quotas", ("dynamodb:Scan",), (Row("every tenant's", "{quotas}"),)),
    Table("ledger", ("dynamodb:Scan",), (Row("every tenant's", "{ledger}"),)),
    Table(
        "s3",
        ("s3:PutBucketPolicy", "s3:GetBucketPolicy"),
        (Row("every tenant's", "{bucket}"),),
    ),
    Table(
        "documents",
        ("s3:PutBucketPolicy", "s3:GetBucketPolicy"),
        (Row("every tenant's", "{documents}"),),
    ),
    Table(
        "memory",
        (
            "bedrock-agentcore:ListActors",
            "bedrock-agentcore:GetMemoryRecord",
            "bedrock-agentcore:DeleteMemoryRecord",
            "bedrock-agentcore:BatchDeleteMemoryRecords",
            "bedrock-agentcore:ListMemoryExtractionJobs",
        ),
        (Row("every tenant's", "{memory}"),),
    ),
    Table(
        "memory",
        (
            "bedrock-agentcore:BatchCreateMemoryRecords",
            "bedrock-agentcore:BatchUpdateMemoryRecords",
        ),
        (
            Row(
                "own namespace, and others that the key does not show",
                "{memory}",
                {"bedrock-agentcore:namespace": "/actors/acme:user/preferences/"},
            ),
        ),
    ),
    Table(
        "registry",
        ("sts:AssumeRole", "iam:PassRole"),
        (Row("the tenant role itself", "{tenant_role}"), Row("the runtime's", "{execution_role}")),
    ),
)
"""The expected verdicts, as data."""


@dataclass(frozen=True)
class Question:
    """One cell of the matrix."""

    component: str
    caller: str
    action: str
    row: Row
    resource: str
    expected: bool

    def __str__(self) -> str:
        return f"{self.action} by {self.caller} on {self.row.name} ({self.resource})"


def questions(documents: Documents) -> Iterator[Question]:
    """Every cell that this variant has. An action that no policy grants is denied to everybody."""
    components = {"registry", "quotas", "ledger", "memory", "model"}
    components |= {"dynamodb"} if documents.table else set()
    components |= {"s3"} if documents.bucket else set()
    components |= {"outbound"} if documents.secrets else set()
    if documents.tokens:
        components |= {"token_service", "client", "own_tokens" if documents.tokens.own else "shared_tokens"}
    if documents.knowledge:
        components |= {"documents", "vectors"}
        shared = documents.knowledge.function is not None
        components |= {"knowledge_function", "shared_knowledge_base"} if shared else {"knowledge_base"}
    for table in TABLES:
        if table.component not in components:
            continue
        callers = ("acme",) if documents.tenant.tenant else table.callers
        for action in table.actions:
            granted = _is_granted(documents.tenant, action)
            for row in table.rows:
                for resource in _resources(row.resource, documents):
                    for caller in callers:
                        expected = row.allowed and granted and caller == "acme"
                        yield Question(table.component, caller, action, row, resource, expected)


def violations(documents: Documents, known: Documents | None = None) -> Iterator[str]:
    """The cells whose verdict is not the expected one, one line each.

    known: what was asked about before. Of its roles nothing is asked again.
    """
    settled = {id(role) for role in known.roles} if known else set()
    for question in questions(documents):
        if _differs(documents.tenant, question, documents.me, settled, expected=question.expected):
            yield f"{question}: expected {'allowed' if question.expected else 'denied'}"
    yield from _of_data_operations(documents, settled)
    for role in (documents.execution, documents.vending, *documents.around_knowledge, *documents.others):
        if role is None or id(role) in settled:
            continue
        for question in questions(documents):
            for_tenants = _is_for_tenants_alone(question, role, documents)
            if for_tenants and _allows(role, question, documents.me):
                yield f"{role.name}: {question}: expected denied"
    for role in documents.tenants:
        # In the name of the tenant whose role it is, or of any other that shares one.
        caller = role.tenant or "globex"
        for question in questions(documents):
            mine = question.row.allowed and question.component not in _FOR_ALL
            if mine and _differs(role, question, documents.me, settled, caller, expected=False):
                yield f"{role.name} as {caller}: {question}: expected denied"


def _of_data_operations(documents: Documents, settled: Collection[int]) -> Iterator[str]:
    """The roles that export, delete and keep house: of a tenant's data each reaches what it is there for."""
    everybody = [
        [
            replace(question, caller=caller)
            for question in questions(seen)
            if question.caller == "acme"
            for caller in CALLERS
        ]
        for seen in (documents, replace(documents, bucket=documents.exports, table=documents.quotas))
    ]
    asked = [question for question in everybody[0] if question.component not in ("model", "quotas", "registry")]
    asked += [replace(question, component="quotas") for question in everybody[1] if question.component == "dynamodb"]
    exports = [replace(question, component="exports") for question in everybody[1] if question.component == "s3"]
    for question in (*asked, *exports):
        wanted = (
            question.row.allowed
            and question.caller == "acme"
            and question.action in DATA_OPERATIONS.get(question.component, ())
            and "bedrock-agentcore:namespace" not in question.row.context
        )
        # Tables, buckets and memories of tenants' own are known by how they are named: by one more letter too.
        named = documents.tenant.tenant is not None or ":memory/t_" in question.resource
        near = question.component in ("dynamodb", "exports", "memory", "s3") and named
        near = near and ("}2" in question.row.resource or "/index/" in question.row.resource)
        if not near and _differs(documents.data, question, documents.me, settled, expected=wanted):
            yield f"{documents.data.name}: {question}: expected {'allowed' if wanted else 'denied'}"
        kept = question.action in UPKEEP
        if _differs(documents.upkeep, question, documents.me, settled, expected=kept):
            yield f"{documents.upkeep.name}: {question}: expected {'allowed' if kept else 'denied'}"
        if documents.knowledge_upkeep:
            kept = _is_on_shared_knowledge(question, documents) and question.action in KNOWLEDGE_UPKEEP
            if _differs(documents.knowledge_upkeep, question, documents.me, settled, expected=kept):
                yield f"{documents.knowledge_upkeep.name}: {question}: expected {'allowed' if kept else 'denied'}"
        managed = question.component in ("documents", "s3") and question.action in STACKS
        if (
            documents.stacks
            and not managed
            and _differs(documents.stacks, question, documents.me, settled, expected=False)
        ):
            yield f"{documents.stacks.name}: {question}: expected denied"
    for role in (documents.tenant, documents.execution, documents.vending, *documents.tenants, *documents.others):
        for question in exports if role else ():
            if role and _differs(role, question, documents.me, settled, expected=False):
                yield f"{role.name}: {question} of the exports: expected denied"


def _is_on_shared_knowledge(question: Question, documents: Documents) -> bool:
    knowledge = documents.knowledge
    return knowledge is not None and knowledge.function is not None and question.resource == knowledge.base


def _is_for_tenants_alone(question: Question, role: Role, documents: Documents) -> bool:
    """What no role around the tenant role may do in its place, least of all the runtime's."""
    if question.action.startswith("sts:"):
        # Who becomes the tenant role is for its trust policy to say.
        return role is documents.execution
    if documents.knowledge and role is documents.knowledge.function_role:
        # Where tenants have pools of their own, the registry says which one a token is of.
        return question.component not in ("shared_knowledge_base", "knowledge_function", "registry")
    if documents.knowledge and role is documents.knowledge.service_role:
        # It reads the documents and keeps the vectors; whose, only the call that Bedrock is asked with says.
        return question.component not in ("documents", "vectors")
    # The control plane keeps the registry, and the ledger's function the ledger.
    return question.component not in ("registry", "ledger") or role not in documents.others


def _differs(
    role: Role, question: Question, me: str, settled: Collection[int], caller: str | None = None, *, expected: bool
) -> bool:
    return id(role) not in settled and _allows(role, question, me, caller) != expected


def _allows(role: Role, question: Question, me: str, caller: str | None = None) -> bool:
    tags = {TENANT_KEY: caller} if caller else _for(me, CALLERS[question.caller])
    request = Request(
        action=question.action,
        resource=question.resource,
        context={**_for(me, question.row.context), **tags},
        principal=role.session(),
        principal_role=role.arn,
    )
    return evaluate(role.policies, request).allowed


def _for(me: str, context: Context) -> Context:
    """The context with this tenant in the place of acme: its twins and near misses follow."""
    return {
        key: value.replace("acme", me) if isinstance(value, str) else [each.replace("acme", me) for each in value]
        for key, value in context.items()
    }


def _is_granted(role: Role, action: str) -> bool:
    return any(
        fnmatchcase(action.lower(), pattern.lower())
        for statement in statements(role.policies)
        if statement["Effect"] == "Allow"
        for pattern in as_list(statement.get("Action", "*"))
    )


def _resources(template: str, documents: Documents) -> list[str]:
    """The ARNs that a line's resource stands for: one, or one for each model."""
    if template == "{model}":
        # A profile may route to any Region of its geography; the own one stands for them.
        return [model.replace(":*:", f":{documents.region}:") for model in documents.models]
    names = {
        "registry": documents.registry,
        "quotas": documents.quotas,
        "ledger": documents.ledger,
        "memory": documents.memory,
        "table": documents.table,
        "bucket": documents.bucket,
        "secrets": documents.secrets,
        "secrets_of_another": (documents.secrets or "").replace("/tenants/", "2/tenants/"),
        "region": documents.region,
        "tenant_role": documents.tenant.arn,
        "execution_role": (documents.execution or documents.tenant).arn,
    }
    if documents.tokens:
        names |= {
            "vault": documents.tokens.vault,
            "directory": documents.tokens.directory,
            "client": documents.tokens.client,
            "client_of_any": documents.tokens.client.rpartition("/")[0] + "/any",
            "workload": documents.tokens.workload,
            "workload_of_any": documents.tokens.workload.rpartition("/")[0] + "/any",
            "client_secret": documents.tokens.secret,
        }
    if documents.knowledge:
        names |= {
            "documents": documents.knowledge.documents,
            "knowledge_base": documents.knowledge.base,
            "knowledge_function": documents.knowledge.function,
            "index": documents.knowledge.index,
        }
    return [template.replace("acme", documents.me).format(**names)]
