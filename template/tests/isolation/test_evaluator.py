"""What the layers rest on: the evaluator reads policies as IAM's documentation says.

Each case is a rule of the IAM User Guide that the shipped policies, or a hole in them, depend on.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from local.iam import PolicyError, Request, Verdict, evaluate

ACCOUNT = "123456789012"
TABLE = f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/app"
TAG = "${aws:PrincipalTag/TenantId}"
ACME = {"aws:PrincipalTag/TenantId": "acme"}


def _policy(**elements: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **elements}]}


def _holds(condition: Mapping[str, Any], context: Mapping[str, Any]) -> bool:
    policy = _policy(Action="dynamodb:GetItem", Resource=TABLE, Condition=condition)
    return evaluate([policy], Request("dynamodb:GetItem", TABLE, context)).allowed


@pytest.mark.parametrize(
    ("condition", "context", "holds"),
    [
        ({"StringEquals": {"aws:x": "a"}}, {"AWS:X": "a"}, True),
        ({"StringEquals": {"aws:x": "a*"}}, {"aws:x": "ab"}, False),
        ({"StringLike": {"aws:x": "a*"}}, {"aws:x": "ab"}, True),
        ({"StringLike": {"aws:x": "a${*}"}}, {"aws:x": "ab"}, False),
        ({"StringLike": {"aws:x": "?*"}}, {"aws:x": ""}, False),
        ({"StringEquals": {"aws:x": "a"}}, {}, False),
        ({"StringEqualsIfExists": {"aws:x": "a"}}, {}, True),
        ({"StringNotEquals": {"aws:x": "a"}}, {}, True),
        ({"StringEquals": {"aws:x": "a"}}, {"aws:x": ["a"]}, False),
        ({"ForAllValues:StringEquals": {"aws:x": "a"}}, {"aws:x": ["a", "b"]}, False),
        ({"ForAllValues:StringEquals": {"aws:x": "a"}}, {}, True),
        ({"ForAllValues:StringEquals": {"aws:x": "a"}}, {"aws:x": []}, True),
        ({"ForAnyValue:StringEquals": {"aws:x": "a"}}, {"aws:x": ["a", "b"]}, True),
        ({"ForAnyValue:StringEquals": {"aws:x": "a"}}, {}, False),
        ({"Null": {"aws:x": "false"}}, {"aws:x": []}, False),
        ({"Null": {"aws:x": True}}, {}, True),
        ({"Bool": {"aws:x": "true"}}, {"aws:x": "TRUE"}, True),
        ({"NumericLessThan": {"aws:x": "10"}}, {"aws:x": "9.5"}, True),
        ({"DateGreaterThan": {"aws:x": "2026-01-01"}}, {"aws:x": "2026-01-01T00:00:01Z"}, True),
        ({"IpAddress": {"aws:x": "10.0.0.0/8"}}, {"aws:x": "10.1.2.3"}, True),
        ({"ArnLike": {"aws:x": "arn:aws:s3:*:b"}}, {"aws:x": "arn:aws:s3:::b"}, False),
    ],
)
def test_conditions(condition: dict[str, Any], context: dict[str, Any], holds: bool) -> None:
    assert _holds(condition, context) is holds


@pytest.mark.parametrize(
    ("wanted", "tags", "value", "holds"),
    [
        (f"TENANT#{TAG}", ACME, "TENANT#acme", True),
        (f"TENANT#{TAG}", ACME, "TENANT#acme2", False),
        (f"TENANT#{TAG}", {}, "TENANT#", False),
        (f"TENANT#{TAG}", {}, f"TENANT#{TAG}", False),
        (f"TENANT#{TAG}", {"aws:PrincipalTag/TenantId": ""}, "TENANT#", False),
        (f"TENANT#{TAG}", {"aws:PrincipalTag/TenantId": "*"}, "TENANT#acme", False),
        (f"TENANT#{TAG}", {"aws:principaltag/tenantid": "acme"}, "TENANT#acme", True),
        (f"{TAG}:*", ACME, "acme:user", True),
        ("${aws:PrincipalTag/TenantId, 'acme'}", {}, "acme", True),
        ("${aws:PrincipalTag/TenantId, 'acme'}", {"aws:PrincipalTag/TenantId": ""}, "acme", False),
    ],
)
def test_variables(wanted: str, tags: dict[str, str], value: str, holds: bool) -> None:
    assert _holds({"StringLike": {"aws:x": wanted}}, {**tags, "aws:x": value}) is holds


def test_an_inverted_operator_matches_a_variable_without_a_value() -> None:
    assert _holds({"StringNotEquals": {"aws:x": TAG}}, {"aws:x": "anything"})


@pytest.mark.parametrize(
    ("pattern", "arn", "covered"),
    [
        (TABLE, TABLE, True),
        (TABLE, TABLE + "2", False),
        (TABLE + "*", TABLE + "2", True),
        ("*", TABLE, True),
        ("arn:aws:dynamodb", TABLE, True),
        (f"arn:aws:dynamodb:*:table/{TAG}", TABLE, False),
        (f"arn:aws:s3:::b/tenants/{TAG}/*", "arn:aws:s3:::b/tenants/acme/a:b/c", True),
        (f"arn:aws:s3:::b/tenants/{TAG}/*", "arn:aws:s3:::b/tenants/acme2/c", False),
    ],
)
def test_resources(pattern: str, arn: str, covered: bool) -> None:
    policy = _policy(Action="*", Resource=pattern)
    assert evaluate([policy], Request("any:Action", arn, ACME)).allowed is covered


def test_a_deny_wins_over_every_allow() -> None:
    allow = _policy(Action="*", Resource="*")
    deny = _policy(Effect="Deny", NotAction="dynamodb:GetItem", Resource="*")
    assert evaluate([allow, deny], Request("dynamodb:GetItem", TABLE)) is Verdict.ALLOWED
    assert evaluate([allow, deny], Request("dynamodb:Scan", TABLE)) is Verdict.EXPLICITLY_DENIED
    assert evaluate([deny], Request("dynamodb:GetItem", TABLE)) is Verdict.IMPLICITLY_DENIED


@pytest.mark.parametrize(
    ("principal", "trusted"),
    [
        ("*", True),
        ({"AWS": "*"}, True),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:role/a"}, True),
        ({"AWS": f"arn:aws:sts::{ACCOUNT}:assumed-role/a/s"}, True),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, True),
        ({"AWS": ACCOUNT}, True),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:role/b"}, False),
        ({"AWS": "arn:aws:iam::999999999999:root"}, False),
        ({"Service": "lambda.amazonaws.com"}, False),
        ({"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/issuer"}, False),
    ],
)
def test_principals(principal: Any, trusted: bool) -> None:
    request = Request(
        "sts:AssumeRole",
        f"arn:aws:iam::{ACCOUNT}:role/b",
        principal=f"arn:aws:sts::{ACCOUNT}:assumed-role/a/s",
        principal_role=f"arn:aws:iam::{ACCOUNT}:role/a",
    )
    policy = _policy(Action="sts:AssumeRole", Principal=principal)
    assert evaluate([policy], request, trust=True).allowed is trusted


@pytest.mark.parametrize(
    "policy",
    [
        _policy(Action="*", Resource="*", Condition={"BinaryEquals": {"aws:x": "a"}}),
        _policy(Action="*", Resource="*", Condition={"ForSomeValues:Bool": {"aws:x": "true"}}),
        _policy(Action="*", Resource="*", Condition={"NumericEquals": {"aws:x": "many"}}),
        _policy(Action="*", Resource="*", Principal="*"),
        _policy(Action="*", Resource="*", Effect="Permit"),
        _policy(Action="*", NotAction="*", Resource="*"),
        _policy(Action="*"),
        _policy(Action="*", Resource="*") | {"Version": "2008-10-17"},
    ],
)
def test_what_is_not_understood_fails_in_one_line(policy: dict[str, Any]) -> None:
    with pytest.raises(PolicyError, match=r"^[^\n]+$"):
        evaluate([policy], Request("dynamodb:Scan", TABLE, {"aws:x": "1"}))
