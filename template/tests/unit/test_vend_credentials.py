"""The credentials function trusts the token alone."""

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from saas_agent.errors import ConfigurationError
from saas_agent.functions import vend_credentials
from saas_agent.functions.vend_credentials import NotVended
from tests.unit.tokens import CLIENT, ISSUER, claims, jwks, signed

ENVIRON = {"ISSUER": ISSUER, "CLIENT_ID": CLIENT}
ROLE = "arn:aws:iam::123456789012:role/tenant"
UNTIL = datetime(2030, 1, 1, tzinfo=UTC)


class Sts:
    """Keeps what it was asked."""

    def __init__(self, error: ClientError | None = None) -> None:
        self.asked: list[dict[str, Any]] = []
        self._error = error

    def client(self, service: str) -> "Sts":
        assert service == "sts"
        return self

    def assume_role(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        if self._error:
            raise self._error
        return {"Credentials": {"AccessKeyId": "A", "SecretAccessKey": "S", "SessionToken": "T", "Expiration": UNTIL}}


def test_the_tenant_of_the_token_is_tagged_and_no_other() -> None:
    sts = Sts()
    handler = vend_credentials.create(ENVIRON, sts, lambda _: jwks())
    tags = [{"Key": "TenantId", "Value": "globex"}]
    event = {"token": signed(claims()), "role_arn": ROLE, "tenant_id": "globex", "Tags": tags}
    answer = handler(event, None)
    assert answer == {"AccessKeyId": "A", "SecretAccessKey": "S", "SessionToken": "T", "Expiration": UNTIL.isoformat()}
    assert sts.asked[0]["RoleArn"] == ROLE
    assert sts.asked[0]["Tags"] == [{"Key": "TenantId", "Value": "acme"}]
    assert sts.asked[0]["TransitiveTagKeys"] == ["TenantId"]
    assert sts.asked[0]["DurationSeconds"] == 900


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({}, "invalid_request"),
        ({"token": None}, "invalid_request"),
        ({"tenant_id": "acme"}, "invalid_request"),
        ({"token": signed(claims()), "role_arn": None}, "invalid_request"),
        ({"token": ""}, "invalid_token"),
        ({"token": "a.b.c"}, "invalid_token"),
        ({"token": signed(claims(exp=1))}, "token_expired"),
        ({"token": signed(claims(tenant_id="*"))}, "no_tenant"),
        ({"token": signed(claims(token_use="id"))}, "invalid_token"),
        ({"token": signed(claims(tenant_status="SUSPENDED"))}, "tenant_not_active"),
    ],
)
def test_anything_but_a_good_token_is_refused_before_sts_is_asked(event: dict[str, Any], code: str) -> None:
    sts = Sts()
    handler = vend_credentials.create(ENVIRON, sts, lambda _: jwks())
    with pytest.raises(NotVended) as caught:
        handler({"role_arn": ROLE, **event}, None)
    assert str(caught.value) == code
    assert sts.asked == []


def test_a_refusal_of_sts_names_its_code_alone() -> None:
    error = ClientError({"Error": {"Code": "AccessDenied", "Message": "secret things"}}, "AssumeRole")
    handler = vend_credentials.create(ENVIRON, Sts(error), lambda _: jwks())
    with pytest.raises(NotVended) as caught:
        handler({"token": signed(claims()), "role_arn": ROLE}, None)
    assert str(caught.value) == "AssumeRole: AccessDenied"


@pytest.mark.parametrize("missing", sorted(ENVIRON))
def test_it_does_not_start_without_its_settings(missing: str) -> None:
    environ = {name: value for name, value in ENVIRON.items() if name != missing}
    with pytest.raises(ConfigurationError, match=missing):
        vend_credentials.create(environ, Sts())
