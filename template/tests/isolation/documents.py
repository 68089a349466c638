"""The IAM documents as deployed, with what the checks need to know of their surroundings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import boto3

from infra.models import model_resources
from local.iam import Policy, as_list
from saas_agent.tenancy.tiers import load_tiers

OTHER_ACCOUNT = "999999999999"


@dataclass(frozen=True)
class Role:
    """One IAM role: what it may do, and who may become it."""

    arn: str
    policies: tuple[Policy, ...]
    trust: Policy

    @property
    def name(self) -> str:
        return self.arn.rpartition("/")[2]

    def session(self, name: str = "session") -> str:
        """ARN of an assumed-role session of this role."""
        account = self.arn.split(":")[4]
        return f"arn:aws:sts::{account}:assumed-role/{self.name}/{name}"


@dataclass(frozen=True)
class Documents:
    """All roles of one deployment.

    Attributes:
        tenant: the role that requests of tenants run under.
        execution: the role of the runtime itself.
        vending: the role of the credentials function, None where STS verifies the token.
        others: the remaining roles of the deployment.
        registry, memory, table, bucket: ARNs; table and bucket are None where the variant has none.
        models: ARNs of the models and inference profiles that the tiers may use.
        issuer: of the user pool, with `https://`.
        client_id: the audience of its tokens.
    """

    tenant: Role
    execution: Role
    vending: Role | None
    others: tuple[Role, ...]
    registry: str
    memory: str
    table: str | None
    bucket: str | None
    models: tuple[str, ...]
    issuer: str
    client_id: str

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


def deployed_policies(session: boto3.Session, outputs: Mapping[str, str]) -> Documents:
    """Read the documents from IAM, for the platform stack with these outputs."""
    iam, clients = session.client("iam"), session.client
    roles = {
        role["Arn"]: _read_role(iam, role)
        for page in iam.get_paginator("list_roles").paginate()
        for role in page["Roles"]
    }
    vending = None
    if "CredentialsFunction" in outputs:
        function = clients("lambda").get_function_configuration(FunctionName=outputs["CredentialsFunction"])
        vending = roles.pop(function["Role"])
    tables = {
        name: clients("dynamodb").describe_table(TableName=outputs[name])["Table"]["TableArn"]
        for name in ("RegistryTable", "TableName")
        if name in outputs
    }
    tenant = roles.pop(outputs["TenantRoleArn"])
    partition, account = (tenant.arn.split(":")[part] for part in (1, 4))
    region = outputs["MemoryArn"].split(":")[3]
    models = model_resources(
        {tier.model for tier in load_tiers().values()},
        partition=partition,
        region=region,
        account=account,
    )
    return Documents(
        tenant=tenant,
        execution=roles.pop(outputs["ExecutionRoleArn"]),
        vending=vending,
        others=tuple(roles.values()),
        registry=tables["RegistryTable"],
        memory=outputs["MemoryArn"],
        table=tables.get("TableName"),
        bucket=f"arn:{partition}:s3:::{outputs['BucketName']}" if "BucketName" in outputs else None,
        models=tuple(models),
        issuer=outputs["Issuer"],
        client_id=outputs["ClientId"],
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
    return Role(role["Arn"], tuple(policies), role["AssumeRolePolicyDocument"])


def statements(policies: Sequence[Policy]) -> list[Policy]:
    """All statements of these policies, in order."""
    return [statement for policy in policies for statement in as_list(policy["Statement"])]
