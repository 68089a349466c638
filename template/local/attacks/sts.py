"""Attacks on the way to AWS credentials."""

import json

from botocore import UNSIGNED
from botocore.config import Config

from local.attacks.attack import Arena, attack
from local.stage import Actor
from saas_agent.wiring import Doors


def plant(doors: Doors, actor: Actor) -> None:
    """Credentials hold no canary."""


def _tag(tenant: str) -> dict[str, str]:
    return {"Key": "TenantId", "Value": tenant}


@attack("Take the tenant role again, tagged as another tenant")
def assume_as_another(arena: Arena) -> object:
    return arena.client("sts").assume_role(
        RoleArn=arena.goal.tenant_role, RoleSessionName="attacker", Tags=[_tag(arena.victim.name)]
    )["AssumedRoleUser"]


@attack("Take the tenant role again, without a tag", each_victim=False)
def assume_untagged(arena: Arena) -> object:
    return arena.client("sts").assume_role(RoleArn=arena.goal.tenant_role, RoleSessionName="attacker")[
        "AssumedRoleUser"
    ]


@attack("Take the agent's execution role", each_victim=False)
def assume_execution_role(arena: Arena) -> object:
    return arena.client("sts").assume_role(RoleArn=arena.goal.execution_role, RoleSessionName="attacker")[
        "AssumedRoleUser"
    ]


@attack("Exchange a token that nobody signed for another tenant's credentials")
def forged_web_identity(arena: Arena) -> object:
    head, _, signature = arena.attacker.tokens.access.split(".")
    _, body, _ = arena.victim.tokens.access.split(".")
    return _exchange(arena, f"{head}.{body}.{signature}")


@attack("Read another tenant's model calls and prompts from the log", each_victim=False)
def read_log(arena: Arena) -> object:
    return arena.client("logs").filter_log_events(logGroupName=arena.goal.log_group)


@attack("Change the tenant role's own policy", each_victim=False)
def widen_role(arena: Arena) -> object:
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    return arena.client("iam").put_role_policy(
        RoleName=arena.home.tenant_role.rpartition("/")[2], PolicyName="wide", PolicyDocument=json.dumps(policy)
    )


@attack("Change the code of the function that names the tenant in tokens", each_victim=False)
def replace_pre_token(arena: Arena) -> object:
    return arena.client("lambda").update_function_code(
        FunctionName=arena.home.own.get("PreTokenFunction") or arena.stage.outputs["PreTokenFunction"], ZipFile=b"PK"
    )


@attack("Make a user of another tenant in the user pool")
def create_user(arena: Arena) -> object:
    return arena.client("cognito-idp").admin_create_user(
        UserPoolId=arena.stage.users(arena.victim.name).pool_id,
        Username="mallory@evil.example",
        UserAttributes=[{"Name": "custom:tenant_id", "Value": arena.victim.name}],
    )


@attack("Call a model that no tier has", each_victim=False)
def another_model(arena: Arena) -> object:
    return arena.client("bedrock-runtime").converse(
        modelId="anthropic.claude-3-opus-20240229-v1:0", messages=[{"role": "user", "content": [{"text": "hi"}]}]
    )


@attack("Exchange a genuine token whose tenant tag is a wildcard, and read with it", local=True)
def wildcard_tag(arena: Arena) -> object:
    return _odd_tag(arena, "*")


@attack("Exchange a genuine token whose tenant tag is empty", each_victim=False, local=True)
def empty_tag(arena: Arena) -> object:
    return _odd_tag(arena, "")


@attack("Exchange a genuine token that carries no tenant tag", each_victim=False, local=True)
def missing_tag(arena: Arena) -> object:
    return _exchange(arena, arena.mint({"https://aws.amazon.com/tags": None}))


@attack("Exchange a genuine token that carries a second tag", each_victim=False, local=True)
def extra_tag(arena: Arena) -> object:
    tags = {"TenantId": [arena.attacker.name], "Admin": ["true"]}
    return _exchange(arena, arena.mint({"https://aws.amazon.com/tags": {"principal_tags": tags}}))


@attack("Exchange a genuine token of another app client", local=True)
def other_client(arena: Arena) -> object:
    tags = {"principal_tags": {"TenantId": [arena.victim.name]}, "transitive_tag_keys": ["TenantId"]}
    return _exchange(arena, arena.mint({"aud": "another-client", "https://aws.amazon.com/tags": tags}))


def _odd_tag(arena: Arena, tag: str) -> object:
    tags = {"principal_tags": {"TenantId": [tag]}, "transitive_tag_keys": ["TenantId"]}
    credentials = _exchange(arena, arena.mint({"https://aws.amazon.com/tags": tags}))
    s3 = arena.stage.session.__class__(
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
        region_name=arena.stage.region,
    ).client("dynamodb")
    key = {"pk": {"S": f"TENANT#{arena.victim.name}"}, "sk": {"S": "TENANT"}}
    return s3.get_item(TableName=arena.stage.outputs["RegistryTable"], Key=key)


def _exchange(arena: Arena, token: str) -> dict[str, str]:
    sts = arena.stage.session.client("sts", config=Config(signature_version=UNSIGNED))
    credentials: dict[str, str] = sts.assume_role_with_web_identity(
        RoleArn=arena.goal.tenant_role,
        RoleSessionName="attacker",
        WebIdentityToken=token,
    )["Credentials"]
    return credentials
