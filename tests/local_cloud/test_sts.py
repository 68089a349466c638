"""Who gets a role's session, with which tags: callers, web identity tokens, services."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jwt
import pytest
from botocore import UNSIGNED
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import rsa

from local import sts
from local.operations import ServiceError

from .local_gate import ACCOUNT, LocalGate, document, local_gate

HOST = "cognito-idp.us-east-1.amazonaws.com/us-east-1_sts"
ISSUER, CLIENT, SUBJECT, KEY_ID = f"https://{HOST}", "sts-client", "subject-1", "key-1"
PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{HOST}"
PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)

ONLY_TENANT_TAG = {
    "StringLike": {"aws:RequestTag/TenantId": "?*"},
    "ForAllValues:StringEquals": {"aws:TagKeys": ["TenantId"]},
    "Null": {"aws:TagKeys": "false"},
}
BOTH = ["sts:AssumeRole", "sts:TagSession"]
ACCOUNT_ROOT = f"arn:aws:iam::{ACCOUNT}:root"


def role_arn(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def allow(principal: Mapping[str, Any], actions: Any, condition: Any = None) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": principal, "Action": actions}
    return {**statement, "Condition": condition} if condition else statement


def may_assume(name: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": BOTH, "Resource": role_arn(name)}


def jwks(_: str) -> Mapping[str, Any]:
    key = jwt.algorithms.RSAAlgorithm.to_jwk(PRIVATE.public_key(), as_dict=True)
    return {"keys": [{**key, "kid": KEY_ID, "use": "sig", "alg": "RS256"}]}


def token(*, private: Any = PRIVATE, algorithm: Any = "RS256", key_id: Any = KEY_ID, **changed: Any) -> str:
    """An access token of acme; a claim that is changed to None is left out."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": CLIENT,
        "sub": SUBJECT,
        "iat": now,
        "exp": now + 600,
        sts.TAGS_CLAIM: tags_claim({"TenantId": ["acme"]}),
        **changed,
    }
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, private, algorithm=algorithm, headers={"kid": key_id})


def tags_claim(tags: Any, transitive: Any = ("TenantId",)) -> dict[str, Any]:
    return {"principal_tags": tags, "transitive_tag_keys": list(transitive)}


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalGate]:
    with local_gate() as running:
        sts.register(running.gate, jwks=jwks)
        _create_roles(running)
        yield running


def _create_roles(cloud: LocalGate) -> None:
    web = "sts:AssumeRoleWithWebIdentity"
    audience = {"StringEquals": {f"{HOST}:aud": CLIENT}}
    cloud.operator("iam").create_open_id_connect_provider(Url=ISSUER, ClientIDList=[CLIENT], ThumbprintList=["a" * 40])
    cloud.create_role("sts-agent", [], may_assume("sts-by-account"))
    cloud.create_role("sts-stranger", [])
    cloud.create_role("sts-forbidden", [], {**may_assume("sts-by-name"), "Effect": "Deny"})
    agents = {"AWS": [role_arn("sts-agent"), role_arn("sts-forbidden")]}
    cloud.create_role("sts-by-name", [allow(agents, BOTH, ONLY_TENANT_TAG)])
    cloud.create_role("sts-by-account", [allow({"AWS": ACCOUNT_ROOT}, BOTH)])
    cloud.create_role(
        "sts-web",
        [allow({"Federated": PROVIDER}, [web, "sts:TagSession"], {**ONLY_TENANT_TAG, **audience})],
    )
    cloud.create_role("sts-web-untagged", [allow({"Federated": PROVIDER}, web, audience)])
    source = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    cloud.create_role("sts-function", [allow({"Service": "lambda.amazonaws.com"}, BOTH, source)])


def session(cloud: LocalGate, role: str, tags: dict[str, str] | None = None) -> Any:
    return cloud.client("sts", cloud.gate.sessions.issue(role, "caller", tags))


def assume(client: Any, role: str, tenant: str | None = "acme", **more: Any) -> dict[str, Any]:
    tags = [{"Key": "TenantId", "Value": tenant}] if tenant is not None else []
    answer: dict[str, Any] = client.assume_role(
        RoleArn=role_arn(role), RoleSessionName="next", **{"Tags": tags, **more}
    )
    return answer


def exchange(cloud: LocalGate, web_token: str, role: str = "sts-web", **more: Any) -> dict[str, Any]:
    """What anybody without AWS credentials can ask for."""
    client = cloud.client("sts", {"AccessKeyId": "", "SecretAccessKey": ""}, signature_version=UNSIGNED)
    answer: dict[str, Any] = client.assume_role_with_web_identity(
        RoleArn=role_arn(role), RoleSessionName="next", WebIdentityToken=web_token, **more
    )
    return answer


def assert_refused(cloud: LocalGate, call: Callable[[], Any], code: str = "AccessDenied") -> None:
    position = cloud.gate.decisions.position()
    with pytest.raises(ClientError) as refused:
        call()
    assert refused.value.response["Error"]["Code"] == code, refused.value
    last = cloud.decisions_since(position)[-1]
    assert (last.allowed, last.source) == (False, "trust")


def issued(cloud: LocalGate, answer: dict[str, Any]) -> Any:
    found = cloud.gate.sessions.find(answer["Credentials"]["AccessKeyId"])
    assert found is not None
    return found.principal


# --- AssumeRole -----------------------------------------------------------------------------------


def test_trust_that_names_the_caller_is_enough(cloud: LocalGate) -> None:
    answer = assume(session(cloud, "sts-agent"), "sts-by-name", TransitiveTagKeys=["TenantId"])
    principal = issued(cloud, answer)
    assert (dict(principal.tags), principal.transitive) == ({"TenantId": "acme"}, {"TenantId"})
    assert answer["AssumedRoleUser"]["Arn"] == principal.arn
    identity = cloud.client("sts", answer["Credentials"]).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/sts-by-name/next"


def test_trust_in_the_account_needs_the_callers_own_policy_too(cloud: LocalGate) -> None:
    assume(session(cloud, "sts-agent"), "sts-by-account")
    assert_refused(cloud, lambda: assume(session(cloud, "sts-stranger"), "sts-by-account"))


def test_a_caller_that_is_not_trusted_is_refused(cloud: LocalGate) -> None:
    for role in ("sts-by-name", "sts-web", "sts-function", "sts-missing"):
        assert_refused(cloud, partial(assume, session(cloud, "sts-stranger"), role))


def test_an_explicit_deny_of_the_caller_wins_over_trust(cloud: LocalGate) -> None:
    assert_refused(cloud, lambda: assume(session(cloud, "sts-forbidden"), "sts-by-name"))


def test_not_even_the_operator_assumes_a_role_that_does_not_trust_it(cloud: LocalGate) -> None:
    assume(cloud.operator("sts"), "sts-by-account")
    assert_refused(cloud, lambda: assume(cloud.operator("sts"), "sts-web"))


@pytest.mark.parametrize(
    "more",
    [
        {"Tags": []},
        {"Tags": [{"Key": "TenantId", "Value": ""}]},
        {"Tags": [{"Key": "Other", "Value": "acme"}]},
        {"Tags": [{"Key": k, "Value": "acme"} for k in ("TenantId", "Admin")]},
    ],
)
def test_session_tags_are_held_to_the_trust_policy(cloud: LocalGate, more: Any) -> None:
    assert_refused(cloud, lambda: assume(session(cloud, "sts-agent"), "sts-by-name", **more))


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"Tags": [{"Key": "TenantId", "Value": "a*"}]}, "ValidationError"),
        ({"Tags": [{"Key": "aws:x", "Value": "a"}]}, "ValidationError"),
        (
            {"Tags": [{"Key": k, "Value": "a"} for k in ("TenantId", "tenantid")]},
            "InvalidParameterValue",
        ),
        ({"TransitiveTagKeys": ["Other"]}, "InvalidParameterValue"),
        ({"DurationSeconds": 3601}, "ValidationError"),
        ({"RoleSessionName": "a/b"}, "ValidationError"),
        ({"Policy": "{}"}, "ValidationError"),
    ],
)
def test_parameters_outside_of_the_limits_are_refused(cloud: LocalGate, more: dict[str, Any], code: str) -> None:
    caller = session(cloud, "sts-agent")
    tags = [{"Key": "TenantId", "Value": "acme"}]
    wanted = {"RoleArn": role_arn("sts-by-name"), "RoleSessionName": "next", "Tags": tags, **more}
    assert_refused(cloud, lambda: caller.assume_role(**wanted), code)


def test_a_transitive_tag_is_inherited_and_can_not_be_replaced(cloud: LocalGate) -> None:
    first = assume(session(cloud, "sts-agent"), "sts-by-name", TransitiveTagKeys=["TenantId"])
    chained = cloud.client("sts", first["Credentials"])
    cloud.operator("iam").put_role_policy(
        RoleName="sts-by-name",
        PolicyName="chain",
        PolicyDocument=document([may_assume("sts-by-account")]),
    )
    principal = issued(cloud, assume(chained, "sts-by-account", None))
    assert dict(principal.tags) == {"TenantId": "acme"}
    for key in ("TenantId", "tenantid"):
        tags = [{"Key": key, "Value": "globex"}]
        again = partial(assume, chained, "sts-by-account", Tags=tags)
        assert_refused(cloud, again, "InvalidParameterValue")


# --- AssumeRoleWithWebIdentity --------------------------------------------------------------------


def test_a_token_gives_a_session_with_the_tags_that_its_issuer_signed(cloud: LocalGate) -> None:
    position = cloud.gate.decisions.position()
    answer = exchange(cloud, token())
    principal = issued(cloud, answer)
    assert (dict(principal.tags), principal.transitive) == ({"TenantId": "acme"}, {"TenantId"})
    assert answer["SubjectFromWebIdentityToken"] == SUBJECT
    decisions = cloud.decisions_since(position)
    assert [(d.action, d.allowed, d.tenant) for d in decisions] == [
        ("sts:AssumeRoleWithWebIdentity", True, "acme"),
        ("sts:TagSession", True, "acme"),
    ]
    assert decisions[0].context[f"{HOST}:aud"] == CLIENT


def test_the_caller_of_a_web_identity_can_not_choose_the_tags(cloud: LocalGate) -> None:
    with pytest.raises(Exception, match="Unknown parameter"):
        exchange(cloud, token(), Tags=[{"Key": "TenantId", "Value": "globex"}])


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (lambda: token(private=None, algorithm="none"), "InvalidIdentityToken"),
        (lambda: token(private="s" * 32, algorithm="HS256"), "InvalidIdentityToken"),
        (lambda: token(private=OTHER_PRIVATE), "InvalidIdentityToken"),
        (lambda: token(private=OTHER_PRIVATE, key_id="other"), "InvalidIdentityToken"),
        (lambda: token(iss="https://elsewhere.example"), "InvalidIdentityToken"),
        (lambda: token(iss=ISSUER + "/"), "InvalidIdentityToken"),
        (lambda: token(aud="another-client"), "InvalidIdentityToken"),
        (lambda: token(aud=None), "InvalidIdentityToken"),
        (lambda: token(sub=None), "InvalidIdentityToken"),
        (lambda: token(exp=None), "InvalidIdentityToken"),
        (lambda: token(exp=int(time.time()) - 5), "ExpiredTokenException"),
        (lambda: token()[:-6] + "AAAAAA", "InvalidIdentityToken"),
        (lambda: "not.a.token", "InvalidIdentityToken"),
        (lambda: token(pad="x" * 15_000), "InvalidIdentityToken"),
        (lambda: token(**{sts.TAGS_CLAIM: "TenantId"}), "InvalidIdentityToken"),
        (
            lambda: token(**{sts.TAGS_CLAIM: tags_claim({"TenantId": "acme"})}),
            "InvalidIdentityToken",
        ),
        (
            lambda: token(**{sts.TAGS_CLAIM: tags_claim({"TenantId": ["acme", "globex"]})}),
            "InvalidIdentityToken",
        ),
        (
            lambda: token(**{sts.TAGS_CLAIM: tags_claim({"TenantId": ["*"]})}),
            "InvalidIdentityToken",
        ),
    ],
)
def test_a_token_that_is_not_the_issuers_is_refused(cloud: LocalGate, made: Callable[[], str], code: str) -> None:
    assert_refused(cloud, lambda: exchange(cloud, made()), code)


@pytest.mark.parametrize(
    "claim",
    [
        None,
        tags_claim({}, ()),
        tags_claim({"TenantId": [""]}),
        tags_claim({"TenantId": ["acme"], "Admin": ["1"]}),
    ],
)
def test_a_tokens_tags_are_held_to_the_trust_policy(cloud: LocalGate, claim: Any) -> None:
    assert_refused(cloud, lambda: exchange(cloud, token(**{sts.TAGS_CLAIM: claim})))


def test_tags_need_leave_to_tag_the_session(cloud: LocalGate) -> None:
    untagged = token(**{sts.TAGS_CLAIM: None})
    assert dict(issued(cloud, exchange(cloud, untagged, "sts-web-untagged")).tags) == {}
    assert_refused(cloud, lambda: exchange(cloud, token(), "sts-web-untagged"))


def test_a_role_that_does_not_trust_the_issuer_is_refused(cloud: LocalGate) -> None:
    for role in ("sts-by-name", "sts-by-account", "sts-missing"):
        assert_refused(cloud, partial(exchange, cloud, token(), role))


def test_no_token_appears_in_a_decision_or_an_error(cloud: LocalGate) -> None:
    made = token(aud="another-client")
    position = cloud.gate.decisions.position()
    with pytest.raises(ClientError) as refused:
        exchange(cloud, made)
    shown = repr(cloud.decisions_since(position)) + str(refused.value)
    assert not any(part in shown for part in made.split("."))


# --- Services -------------------------------------------------------------------------------------


def test_a_service_gets_a_role_that_trusts_it(cloud: LocalGate) -> None:
    credentials = sts.assume_as_service(
        cloud.gate, "sts-function", "lambda.amazonaws.com", "run", source_arn="arn:aws:lambda:x"
    )
    identity = cloud.client("sts", credentials).get_caller_identity()
    assert identity["Arn"].endswith(":assumed-role/sts-function/run")


@pytest.mark.parametrize(
    ("role", "service"),
    [
        ("sts-function", "bedrock-agentcore.amazonaws.com"),
        ("sts-by-account", "lambda.amazonaws.com"),
        ("sts-missing", "lambda.amazonaws.com"),
    ],
)
def test_a_service_that_is_not_trusted_gets_nothing(cloud: LocalGate, role: str, service: str) -> None:
    position = cloud.gate.decisions.position()
    with pytest.raises(ServiceError, match="AccessDenied"):
        sts.assume_as_service(cloud.gate, role, service, "run")
    assert [(d.allowed, d.source) for d in cloud.decisions_since(position)] == [(False, "trust")]
