"""The IAM documents as deployed, with what the checks need to know of their surroundings."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from infra.models import model_resources
from local.iam import Policy, as_list
from local.stage import Stage
from saas_agent.tenancy.placement import load_placement
from saas_agent.tenancy.tiers import load_tiers
from saas_agent.wiring import Doors

LOOK_UP = "look-up"
"""In the place of a tier: the shared role, where it only leads every tenant to a role of its own."""

TENANT = "${aws:PrincipalTag/TenantId}"
ME = "acme"
"""The tenant in whose name the shared role is asked."""

_SOME_MEMORY = "t_none"
"""Named like a memory of a tenant's own, which is how the roles around the tenant role know those."""

TENANT_KEY = "aws:PrincipalTag/TenantId"
OTHER_ACCOUNT = "999999999999"
AGENTCORE, LAMBDA = "bedrock-agentcore.amazonaws.com", "lambda.amazonaws.com"


@dataclass(frozen=True)
class Role:
    """One IAM role: what it may do, who may become it, and the tenant that its own tag names, if any."""

    arn: str
    policies: tuple[Policy, ...]
    trust: Policy
    tenant: str | None = None

    @property
    def name(self) -> str:
        return self.arn.rpartition("/")[2]

    def session(self, name: str = "session") -> str:
        """ARN of an assumed-role session of this role."""
        account = self.arn.split(":")[4]
        return f"arn:aws:sts::{account}:assumed-role/{self.name}/{name}"


@dataclass(frozen=True)
class Knowledge:
    """A knowledge base and what stands around it: ARNs and roles.

    Attributes:
        function, function_role: of the knowledge function, None where the knowledge base is a tenant's own.
        service_role: the role that Bedrock acts in for it.
    """

    base: str
    index: str
    documents: str
    service_role: Role
    function: str | None
    function_role: Role | None


@dataclass(frozen=True)
class Tokens:
    """Where OAuth tokens of a third party come from: ARNs.

    Attributes:
        client, workload: the provider and the workload identity that serve the tier's tenants. own: whether they are
            one tenant's.
        secret: of the provider's client, without the six characters behind its name.
    """

    vault: str
    directory: str
    client: str
    workload: str
    secret: str
    own: bool


@dataclass(frozen=True)
class Documents:
    """All roles of one deployment, seen by the tenants of one tier.

    Attributes:
        tenant: the role that requests of the tier's tenants run under: the one that they share and a session's tag
            tells apart, or, where `tenant.tenant` is set, this one tenant's own.
        only_looks_up: whether it reads the registry and nothing else, since every tenant has a role of its own.
        own_runtime: whether it is the role that the tenant's own runtime runs in.
        own_services: the services that run what is the tenant's own in it: its runtime, functions behind its gateway.
        tenants: the roles of other tenants, and the shared one where `tenant` is a tenant's own.
        execution: the role of the shared runtime, None where there is none.
        vending: the role of the credentials function, None where STS verifies the token.
        data: the role that exports and deletes one tenant's data. upkeep: the one for the calls that have no condition
            key. knowledge_upkeep: the one that takes a tenant out of the shared knowledge base, if any.
            data_function: the role of the function that alone takes these.
        stacks: the role in which CloudFormation makes tenants' stacks, None where there are none.
        others: the remaining roles of the deployment.
        exports, registry, quotas, ledger, memory, table, bucket: ARNs; table and bucket are None where there are none.
        tokens: where OAuth tokens come from; None where there are none.
        secrets: what the ARNs of tenants' secrets begin with, up to the tenant; None where there are none.
            The memory is one that does not exist where tenants share none and the role is none of a tenant's own.
        knowledge: of the knowledge base that holds the tier's documents, None where the variant has none.
        models: ARNs of the models and inference profiles that the tiers may use.
        issuer: of the user pool, with `https://`.
        client_id: the audience of its tokens.
    """

    tenant: Role
    only_looks_up: bool
    own_runtime: bool
    own_services: tuple[str, ...]
    tenants: tuple[Role, ...]
    execution: Role | None
    vending: Role | None
    data: Role
    upkeep: Role
    knowledge_upkeep: Role | None
    data_function: Role
    stacks: Role | None
    others: tuple[Role, ...]
    exports: str
    registry: str
    quotas: str
    ledger: str
    memory: str
    table: str | None
    bucket: str | None
    secrets: str | None
    tokens: Tokens | None
    knowledge: "Knowledge | None"
    models: tuple[str, ...]
    issuer: str
    client_id: str

    @property
    def me(self) -> str:
        """The tenant in whose name everything is asked."""
        return self.tenant.tenant or ME

    @property
    def tenant_text(self) -> str:
        """How the tenant role's policies name the tenant."""
        return self.tenant.tenant or TENANT

    def names_tenant(self, text: str) -> bool:
        """Whether a part of a policy names the tenant, as a whole."""
        return re.search(rf"(^|[#/]){re.escape(self.tenant_text)}([:/]|$)", text) is not None

    @property
    def roles(self) -> list[Role]:
        """All of them."""
        roles = (
            self.tenant,
            *self.tenants,
            self.execution,
            self.vending,
            *self.around_knowledge,
            self.data,
            self.upkeep,
        )
        roles += (self.knowledge_upkeep, self.data_function, self.stacks, *self.others)
        return [role for role in roles if role]

    @property
    def around_knowledge(self) -> list[Role]:
        """The roles of the knowledge base and of the function that asks it."""
        roles = (self.knowledge.service_role, self.knowledge.function_role) if self.knowledge else ()
        return [role for role in roles if role]

    @property
    def account(self) -> str:
        return self.tenant.arn.split(":")[4]

    @property
    def region(self) -> str:
        return self.memory.split(":")[3]

    @property
    def issuer_path(self) -> str:
        """The issuer as IAM writes it in provider ARNs and condition keys."""
        return self.issuer.removeprefix("https://")

    @property
    def provider(self) -> str:
        return f"arn:aws:iam::{self.account}:oidc-provider/{self.issuer_path}"


def ways() -> list[str]:
    """The first tier of each way of being placed, and LOOK_UP where no tier's tenants work in the shared role."""
    placement, firsts = load_placement(), dict[tuple[str, ...], str]()
    for tier in placement.tiers:
        firsts.setdefault(tuple(placement.row(tier).values()), tier)
    shared_runtime = any(placement.serves(tier, None) for tier in placement.tiers)
    all_own = all(placement.has_own(tier) for tier in placement.tiers)
    return [*firsts.values(), *([LOOK_UP] if shared_runtime and all_own else [])]


def deployed_policies(stage: Stage, tier: str) -> Documents:
    """Read the documents from IAM, as they are for this tier; onboards a tenant where the tier has its own."""
    iam, clients, outputs = stage.session.client("iam"), stage.session.client, stage.outputs
    own = tier != LOOK_UP and load_placement().has_own(tier)
    home = stage.home(stage.onboard(f"own-{tier}", tier).name) if own else None
    roles = {
        role["Arn"]: _read_role(iam, role)
        for page in iam.get_paginator("list_roles").paginate()
        for role in page["Roles"]
    }
    vending = None
    if "CredentialsFunction" in outputs:
        function = clients("lambda").get_function_configuration(FunctionName=outputs["CredentialsFunction"])
        vending = roles.pop(function["Role"])

    def functions(name: str) -> Any:
        return clients("lambda").get_function_configuration(
            FunctionName=f"{outputs['Service']}-{outputs['Stage']}-{name}"
        )

    execution = roles.pop(outputs["ExecutionRoleArn"]) if "ExecutionRoleArn" in outputs else None
    tenant = roles.pop(home.tenant_role if home else outputs["TenantRoleArn"])
    knowledge = None
    if "knowledge_base" in load_placement().components and tier != LOOK_UP:
        where = home.resource("knowledge_base") if home else outputs["KnowledgeAccess"]
        documents = home.resource("knowledge_base/documents") if home else outputs["DocumentsBucket"]
        knowledge = _knowledge(stage, roles, where, documents)
        for role in (knowledge.service_role, knowledge.function_role):
            if role:
                del roles[role.arn]
    mine = tenant.tenant or ME
    roles = {arn: role for arn, role in roles.items() if role.tenant != mine}
    # A tenant's own pre-token function has a role that is tagged with the tenant too, and is nobody's to get into.
    own_roles = {record.resources.get("TenantRoleArn") for record in stage.registry.records()}
    tenants = [arn for arn in roles if arn in own_roles | {outputs.get("TenantRoleArn")}]
    taken = functions("tenant-data")
    data, upkeep, knowledge_upkeep = (
        roles.pop(taken["Environment"]["Variables"].get(f"{name}_ROLE_ARN"), None)
        for name in ("DATA", "UPKEEP", "KNOWLEDGE")
    )
    assert data
    assert upkeep
    stacks = None
    if any(map(load_placement().stack_template, load_placement().tiers)):
        stacks = roles.pop(functions("tenant-stack")["Environment"]["Variables"]["STACK_ROLE_ARN"])
    partition, account = (tenant.arn.split(":")[part] for part in (1, 4))

    def resource(component: str, output: str) -> str | None:
        if home:
            return home.resource(component) if component in load_placement().components else None
        return outputs.get(output)

    def table(name: str) -> str:
        arn: str = clients("dynamodb").describe_table(TableName=name)["Table"]["TableArn"]
        return arn

    name, bucket, memory = (
        resource("dynamodb", "TableName"), resource("s3", "BucketName"), resource("memory", "MemoryId")
    )  # fmt: skip
    models = model_resources(
        {tier.model for tier in load_tiers().values()},
        partition=partition,
        region=stage.region,
        account=account,
    )
    doors, tokens = {field.name for field in fields(Doors)}, None
    if "reported_issues" in doors and tier != LOOK_UP:
        owner = (home.resource("outbound") if home else outputs["Outbound"]).partition("|")[0].split("/")
        named = "_".join(owner)
        base = f"arn:{partition}:bedrock-agentcore:{stage.region}:{account}"
        tokens = Tokens(
            vault=f"{base}:token-vault/default",
            directory=f"{base}:workload-identity-directory/default",
            client=f"{base}:token-vault/default/oauth2credentialprovider/{named}",
            workload=f"{base}:workload-identity-directory/default/workload-identity/{named}",
            secret=f"arn:{partition}:secretsmanager:{stage.region}:{account}:secret:"
            f"bedrock-agentcore-identity!default/oauth2/{named}",
            own=len(owner) > 2,
        )
    return Documents(
        tenant=tenant,
        only_looks_up=tier == LOOK_UP,
        own_runtime=home is not None and home.settings.tenant_id is not None,
        own_services=(AGENTCORE, *([LAMBDA] if home is not None and "GatewayId" in home.own else [])),
        tenants=tuple(roles.pop(arn) for arn in tenants),
        execution=execution,
        vending=vending,
        data=data,
        upkeep=upkeep,
        knowledge_upkeep=knowledge_upkeep,
        data_function=roles[taken["Role"]],
        stacks=stacks,
        others=tuple(roles.values()),
        exports=f"arn:{partition}:s3:::{outputs['ExportsBucket']}",
        registry=table(outputs["RegistryTable"]),
        quotas=table(outputs["QuotaTable"]),
        ledger=table(outputs["LedgerTable"]),
        memory=f"arn:{partition}:bedrock-agentcore:{stage.region}:{account}:memory/{memory or _SOME_MEMORY}",
        table=table(name) if name else None,
        bucket=f"arn:{partition}:s3:::{bucket}" if bucket else None,
        secrets=(
            f"arn:{partition}:secretsmanager:{stage.region}:{account}:secret:"
            f"{outputs['Service']}/{outputs['Stage']}/tenants/"
            if "issues" in doors
            else None
        ),
        tokens=tokens,
        knowledge=knowledge,
        models=tuple(models),
        issuer=home.settings.issuer if home else outputs["Issuer"],
        client_id=home.settings.client_id if home else outputs["ClientId"],
    )


def _knowledge(stage: Stage, roles: Mapping[str, Role], where: str, bucket: str) -> Knowledge:
    """`where`: a tenant's own knowledge base with its data source, or the function that asks the shared one."""
    function = None
    data_source = where if "|" in where else stage.outputs["KnowledgeDataSource"]
    if where != data_source:
        function = stage.session.client("lambda").get_function_configuration(FunctionName=where)
    base = stage.session.client("bedrock-agent").get_knowledge_base(knowledgeBaseId=data_source.partition("|")[0])
    described = base["knowledgeBase"]
    return Knowledge(
        base=described["knowledgeBaseArn"],
        index=described["storageConfiguration"]["s3VectorsConfiguration"]["indexArn"],
        documents=f"arn:aws:s3:::{bucket}",
        service_role=roles[described["roleArn"]],
        function=function["FunctionArn"] if function else None,
        function_role=roles[function["Role"]] if function else None,
    )


def _read_role(iam: Any, role: Mapping[str, Any]) -> Role:
    name = role["RoleName"]
    policies = [
        iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
    ]
    for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        policy = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]
        version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])
        policies.append(version["PolicyVersion"]["Document"])
    tags = {tag["Key"]: tag["Value"] for tag in iam.list_role_tags(RoleName=name)["Tags"]}
    return Role(role["Arn"], tuple(policies), role["AssumeRolePolicyDocument"], tags.get("TenantId"))


def statements(policies: Sequence[Policy]) -> list[Policy]:
    """All statements of these policies, in order."""
    return [statement for policy in policies for statement in as_list(policy["Statement"])]
