"""What is shared and what is dedicated, read from the deployed stacks and not from the templates' text."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase

import pytest

from local.cloud import ACCOUNT
from local.stage import Actor, Home, Stage
from saas_agent.tenancy import standing
from saas_agent.tenancy.placement import load_placement
from saas_agent.wiring import RESOURCES

PLACEMENT = load_placement()
TIERS = PLACEMENT.tiers


@pytest.fixture(scope="module")
def homes(stage: Stage) -> dict[str, tuple[Home, Home]]:
    """Two tenants of each tier."""
    return {
        tier: (
            stage.home(stage.onboard(f"one-{tier}", tier).name),
            stage.home(stage.onboard(f"two-{tier}", tier).name),
        )
        for tier in TIERS
    }


def identities(home: Home) -> dict[str, str]:
    """Component -> what tells its resource apart."""
    return {"runtime": home.runtime_arn, **{component: home.resource(component) for component in RESOURCES}}


def stack_resources(stage: Stage, name: str) -> Iterator[tuple[str, str]]:
    """Type and physical id of everything in a stack."""
    pages = stage.session.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=name)
    for page in pages:
        for resource in page["StackResourceSummaries"]:
            yield resource["ResourceType"], resource["PhysicalResourceId"]


def tenant_stack(stage: Stage, tenant_id: str) -> str:
    return f"{stage.outputs['Service']}-{stage.outputs['Stage']}-tenant-{tenant_id}"


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("component", PLACEMENT.components)
def test_a_component_is_where_the_placement_has_it(
    homes: dict[str, tuple[Home, Home]], tier: str, component: str
) -> None:
    one, two = (identities(home)[component] for home in homes[tier])
    everybody_elses = {identities(home)[component] for other, pair in homes.items() if other != tier for home in pair}
    if PLACEMENT.column(tier, component) == "shared":
        tiers = [each for each in TIERS if PLACEMENT.column(each, component) == "shared"]
        shared = {identities(home)[component] for each in tiers for home in homes[each]}
        assert {one, two} == shared
        assert len(shared) == 1
    else:
        assert one != two
        assert not {one, two} & everybody_elses


@pytest.mark.parametrize("tier", TIERS)
def test_a_tenants_stack_holds_what_is_dedicated_and_nothing_else(
    stage: Stage, homes: dict[str, tuple[Home, Home]], tier: str
) -> None:
    types = {
        "runtime": ["AWS::BedrockAgentCore::Runtime"],
        # The last is the one that it works in.
        "gateway": ["AWS::BedrockAgentCore::Gateway", "AWS::IAM::Role"],
        "memory": ["AWS::BedrockAgentCore::Memory"],
        "dynamodb": ["AWS::DynamoDB::Table"],
        "s3": ["AWS::S3::Bucket"],
        # The last is the one that Bedrock works in.
        "knowledge_base": [
            *("AWS::S3::Bucket", "AWS::S3Vectors::VectorBucket", "AWS::S3Vectors::Index"),
            *("AWS::Bedrock::KnowledgeBase", "AWS::Bedrock::DataSource", "AWS::IAM::Role"),
        ],
    }
    own = [c for c in types if c in PLACEMENT.components and PLACEMENT.column(tier, c) == "dedicated"]
    dedicated = Counter(kind for component in own for kind in types[component])
    stacks = {stack["StackName"] for stack in stage.session.client("cloudformation").describe_stacks()["Stacks"]}
    name = tenant_stack(stage, f"one-{tier}")
    assert (name in stacks) == (PLACEMENT.stack_template(tier) is not None)
    known = {kind for kinds in types.values() for kind in kinds}
    resources = stack_resources(stage, name) if name in stacks else []
    held = Counter(kind for kind, _ in resources if kind in known)
    # The tenant's, and that of the pre-token function of a pool that the tenant's own runtime trusts.
    own_tokens = PLACEMENT.own_user_pools and PLACEMENT.column(tier, "runtime") == "dedicated"
    assert held == dedicated + Counter({"AWS::IAM::Role": bool(own) + own_tokens})


def test_two_tenants_with_components_of_their_own_share_no_resource_and_no_role(
    stage: Stage, homes: dict[str, tuple[Home, Home]]
) -> None:
    own = [f"{number}-{tier}" for tier in TIERS if PLACEMENT.stack_template(tier) for number in ("one", "two")]
    # A group is known by its name within its pool.
    held = {
        tenant: {
            physical
            for kind, physical in stack_resources(stage, tenant_stack(stage, tenant))
            if kind != "AWS::Cognito::UserPoolGroup"
        }
        for tenant in own
    }
    for one, two in itertools.combinations(own, 2):
        assert not held[one] & held[two]
    roles = [home.tenant_role for tier in TIERS if PLACEMENT.has_own(tier) for home in homes[tier]]
    assert len(set(roles)) == len(roles)


def test_tenants_functions_are_within_reach_of_their_own_stages_role_and_no_others_are(
    stage: Stage, homes: dict[str, tuple[Home, Home]]
) -> None:
    own = [f"one-{tier}" for tier in TIERS if PLACEMENT.stack_template(tier)]
    names = {tenant: functions(stage, tenant_stack(stage, tenant)) for tenant in own}
    if not any(names.values()):
        return
    platform = f"{stage.outputs['Service']}-{stage.outputs['Stage']}-platform"
    [role] = [name for _, name in stack_resources(stage, platform) if name.startswith(f"{platform}-StackRole-")]
    iam = stage.session.client("iam")
    statements = [
        statement
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]
        for statement in iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]["Statement"]
        if "lambda:UpdateFunctionCode" in statement["Action"]
    ]
    found = [statement["Resource"] for statement in statements]
    patterns = [arn.rpartition(":")[2] for arns in found for arn in (arns if isinstance(arns, list) else [arns])]

    def in_reach(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    for tenant, of_tenant in names.items():
        for name in of_tenant:
            assert in_reach(name), name
            # Another stage's begin otherwise; and CloudFormation cuts what is longer than 64 characters.
            assert not in_reach(f"{'0' * 12}{name[12:]}"), name
            assert len(name.replace(tenant, "t" * 32)) <= 64, name
    assert not [name for name in functions(stage, platform) if in_reach(name)]


def functions(stage: Stage, stack: str) -> list[str]:
    """The names of the functions in a stack."""
    return [name for kind, name in stack_resources(stage, stack) if kind == "AWS::Lambda::Function"]


@pytest.mark.parametrize("tier", TIERS)
def test_everything_of_a_tenants_own_is_tagged_with_it(
    stage: Stage, homes: dict[str, tuple[Home, Home]], tier: str
) -> None:
    home, expected = homes[tier][0], {"TenantId": f"one-{tier}", "Tier": tier}
    if PLACEMENT.own_user_pools:
        pool = stage.session.client("cognito-idp").describe_user_pool(UserPoolId=home.own["UserPoolId"])["UserPool"]
        assert pool["UserPoolTags"].items() >= expected.items()
    if not PLACEMENT.has_own(tier):
        assert set(home.own) == ({"UserPoolId", "Tier"} if PLACEMENT.own_user_pools else set())
        return
    iam, role = stage.session.client("iam"), home.tenant_role.rpartition("/")[2]
    assert {tag["Key"]: tag["Value"] for tag in iam.list_role_tags(RoleName=role)["Tags"]}.items() >= expected.items()
    control = stage.session.client("bedrock-agentcore-control")
    for component, arn in (
        ("runtime", home.runtime_arn),
        ("memory", f"arn:aws:bedrock-agentcore:{stage.region}:{ACCOUNT}:memory/{home.resource('memory')}"),
    ):
        if PLACEMENT.column(tier, component) == "dedicated":
            assert control.list_tags_for_resource(resourceArn=arn)["tags"].items() >= expected.items()
    if "knowledge_base" in PLACEMENT.components and PLACEMENT.column(tier, "knowledge_base") == "dedicated":
        bedrock, vectors, s3 = map(stage.session.client, ("bedrock-agent", "s3vectors", "s3"))
        base_id = home.resource("knowledge_base").partition("|")[0]
        base = bedrock.get_knowledge_base(knowledgeBaseId=base_id)["knowledgeBase"]
        index = base["storageConfiguration"]["s3VectorsConfiguration"]["indexArn"]
        bucket = s3.get_bucket_tagging(Bucket=home.resource("knowledge_base/documents"))["TagSet"]
        for tags in (
            bedrock.list_tags_for_resource(resourceArn=base["knowledgeBaseArn"])["tags"],
            vectors.list_tags_for_resource(resourceArn=index)["tags"],
            vectors.list_tags_for_resource(resourceArn=index.partition("/index/")[0])["tags"],
            {tag["Key"]: tag["Value"] for tag in bucket},
        ):
            assert tags.items() >= expected.items()


@pytest.mark.parametrize("tier", TIERS)
def test_a_tenant_reaches_its_own_runtime_and_no_other(
    stage: Stage, homes: dict[str, tuple[Home, Home]], tier: str
) -> None:
    actors = {other: stage.onboard(f"one-{other}", other) for other in TIERS}
    assert stage.ask(actors[tier], "hello").status == 200
    for other, victim in actors.items():
        if stage.home(victim.name).runtime_arn != stage.home(actors[tier].name).runtime_arn:
            answer = stage.invoke(
                victim, {"prompt": "hello"}, actors[tier].tokens.access, actors[tier].new_session_id()
            )
            assert answer.status in (401, 403), (other, answer)


def test_a_tenant_that_was_moved_is_not_served_where_it_was(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, acme: Actor
) -> None:
    """The agent believes the registry, within the seconds that it may remember it, and not the token."""
    monkeypatch.setattr(standing, "FRESH_SECONDS", 0.0)
    moved = {"dedicated": "shared", "shared": "dedicated"}[PLACEMENT.column("basic", "memory")]
    key = {"pk": {"S": f"TENANT#{acme.name}"}, "sk": {"S": "TENANT"}}
    table, dynamodb = stage.outputs["RegistryTable"], stage.session.client("dynamodb")
    before = dynamodb.get_item(TableName=table, Key=key)["Item"]
    placed = {**before["placement"]["M"], "memory": {"S": moved}}
    dynamodb.put_item(TableName=table, Item={**before, "placement": {"M": placed}})
    try:
        answer = stage.ask(acme, "hello")
    finally:
        dynamodb.put_item(TableName=table, Item=before)
    assert (answer.status, answer.body["error"]["code"]) == (403, "not_here"), json.dumps(answer.body)
    assert stage.ask(acme, "hello").status == 200
