"""Who is calling: the tenant's id, the verified token, and the session id that is bound to both."""

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from saas_agent.errors import ConfigurationError, Refused
from saas_agent.tenancy.session import new_session_id, require_own
from saas_agent.tenancy.tenant import TenantContext, valid_tenant_id
from saas_agent.tenancy.token import ID_TOKEN_HEADER, SigningKeys, TokenVerifier, bearer, fetch_keys
from tests.unit.tokens import CLIENT, ISSUER, SUBJECT, claims, jwks, signed


@pytest.mark.parametrize("good", ["abc", "acme", "acme2", "a-b", "0ab", "a" * 32])
def test_tenant_ids_that_are_taken(good: str) -> None:
    assert valid_tenant_id(good)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "ab",
        "-ab",
        "ab-",
        "Acme",
        "a_b",
        "a.b",
        "a:b",
        "a/b",
        "a#b",
        "a*b",
        "a?b",
        "a b",
        "abc\n",
        "ａcme",
        "acmé",
        "a" * 33,
        None,
        7,
        ["acme"],
    ],
)
def test_tenant_ids_that_are_not(bad: object) -> None:
    assert not valid_tenant_id(bad)


def test_a_context_can_not_be_made_of_a_malformed_id_nor_changed() -> None:
    with pytest.raises(ValueError, match="tenant id is malformed"):
        TenantContext("a*", "basic", "s", 0)
    with pytest.raises(ValueError, match="subject is malformed"):
        TenantContext("acme", "basic", "s:t", 0)
    context = TenantContext("acme", "basic", "s", 0)
    with pytest.raises(AttributeError):
        context.tenant_id = "globex"  # type: ignore[misc]


def test_the_session_name_does_not_show_the_subject() -> None:
    name = TenantContext("acme", "basic", "subject-1", 0).session_name
    assert name.startswith("acme.") and "subject" not in name and len(name) <= 64


@pytest.fixture
def verifier() -> TokenVerifier:
    return TokenVerifier(ISSUER, CLIENT, lambda _: jwks())


def code_of(call: Any) -> str:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.reason.code


def test_a_good_access_token_names_its_tenant(verifier: TokenVerifier) -> None:
    raw = signed(claims())
    verified = verifier.access_token(raw)
    assert (verified.tenant.tenant_id, verified.tenant.tier, verified.tenant.subject) == (
        "acme",
        "basic",
        SUBJECT,
    )
    assert verified.tenant.actor_id == f"acme:{SUBJECT}"
    assert raw not in repr(verified)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"iss": "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_other"}, "invalid_token"),
        ({"iss": ISSUER + "/"}, "invalid_token"),
        ({"aud": "another-client"}, "invalid_token"),
        ({"aud": None}, "invalid_token"),
        ({"client_id": "another-client"}, "invalid_token"),
        ({"client_id": None}, "invalid_token"),
        ({"token_use": "id"}, "invalid_token"),
        ({"token_use": None}, "invalid_token"),
        ({"exp": int(time.time()) - 1}, "token_expired"),
        ({"exp": None}, "invalid_token"),
        ({"nbf": int(time.time()) + 600}, "invalid_token"),
        ({"sub": None}, "invalid_token"),
        ({"sub": "ann@acme.example"}, "invalid_token"),
        ({"sub": "x:y"}, "invalid_token"),
        ({"tenant_id": None}, "no_tenant"),
        ({"tenant_id": ""}, "no_tenant"),
        ({"tenant_id": "*"}, "no_tenant"),
        ({"tenant_id": "acme:globex"}, "no_tenant"),
        ({"tenant_id": "acme/../globex"}, "no_tenant"),
        ({"tenant_id": "acme#"}, "no_tenant"),
        ({"tenant_id": "acmé"}, "no_tenant"),
        ({"tenant_id": "acme\n"}, "no_tenant"),
        ({"tenant_id": "Acme"}, "no_tenant"),
        ({"tenant_id": ["acme", "globex"]}, "no_tenant"),
        ({"tier": None}, "no_tenant"),
        ({"tier": {"name": "premium"}}, "no_tenant"),
        ({"tenant_status": "SUSPENDED"}, "tenant_not_active"),
        ({"tenant_status": None}, "tenant_not_active"),
    ],
)
def test_a_claim_that_is_off_is_refused(verifier: TokenVerifier, changed: dict[str, Any], code: str) -> None:
    assert code_of(lambda: verifier.access_token(signed(claims(**changed)))) == code


TAGS = "https://aws.amazon.com/tags"


@pytest.mark.parametrize(
    "tags",
    [
        {},
        [],
        "acme",
        {"principal_tags": {}},
        {"principal_tags": {"TenantId": []}},
        {"principal_tags": {"TenantId": "acme"}},
        {"principal_tags": {"TenantId": ["globex"]}},
        {"principal_tags": {"TenantId": ["acme", "globex"]}},
        {"principal_tags": {"TenantId": ["acme"], "Role": ["administrator"]}},
        {"principal_tags": {"tenantid": ["acme"]}},
    ],
)
def test_session_tags_that_are_not_exactly_the_tenants_are_refused(verifier: TokenVerifier, tags: Any) -> None:
    assert code_of(lambda: verifier.access_token(signed(claims(**{TAGS: tags})))) == "no_tenant"


def test_keys_of_another_type_are_none_of_the_issuers() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    shown = jwt.algorithms.ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    odd = [{**shown, "kid": "ec"}, {"kty": "oct", "k": "c2VjcmV0", "kid": "oct", "alg": "HS256"}]
    keys = SigningKeys(ISSUER, lambda _: {"keys": [*jwks()["keys"], *odd]})
    assert keys.get("key-1") is not None
    assert (keys.get("ec"), keys.get("oct")) == (None, None)


@pytest.mark.parametrize("issuer", ["http://issuer.example", "file:///etc/hosts", "ftp://issuer.example", ""])
def test_keys_are_fetched_over_https_alone(issuer: str) -> None:
    with pytest.raises(ValueError, match="https"):
        fetch_keys(issuer)


def test_other_algorithms_are_refused(verifier: TokenVerifier) -> None:
    none = jwt.encode(claims(), "", algorithm="none", headers={"kid": "key-1"})
    public = jwt.PyJWKSet.from_dict(jwks()).keys[0].key
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    confused = _hmac_signed(claims(), pem)
    for raw in (
        none,
        confused,
        signed(claims(), algorithm="RS512"),
        signed(claims(), algorithm="PS256"),
    ):
        assert code_of(lambda raw=raw: verifier.access_token(raw)) == "invalid_token"


def test_a_token_of_another_key_is_refused_even_under_our_key_id(verifier: TokenVerifier) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert code_of(lambda: verifier.access_token(signed(claims(), private=other))) == "invalid_token"


@pytest.mark.parametrize(
    "header",
    [{"kid": "unknown"}, {"jku": "https://evil.example/jwks.json", "kid": "x"}, {"kid": ""}],
)
def test_the_tokens_own_header_chooses_no_key(verifier: TokenVerifier, header: dict[str, Any]) -> None:
    assert code_of(lambda: verifier.access_token(signed(claims(), headers=header))) == "invalid_token"


def test_garbage_is_refused(verifier: TokenVerifier) -> None:
    for raw in ("", "a", "a.b.c", "....", "\x00", signed(claims())[:-4] + "AAAA"):
        assert code_of(lambda raw=raw: verifier.access_token(raw)) == "invalid_token"


def test_no_refusal_quotes_the_token(verifier: TokenVerifier) -> None:
    raw = signed(claims(aud="another-client"))
    with pytest.raises(Refused) as caught:
        verifier.access_token(raw)
    shown = f"{caught.value} {caught.value!r} {caught.value.detail}"
    assert not any(part in shown for part in raw.split("."))


def test_the_id_token_must_be_of_the_same_subject_and_tenant(verifier: TokenVerifier) -> None:
    access = verifier.access_token(signed(claims()))
    own = claims(token_use="id", client_id=None, jti=None)
    assert verifier.id_token(signed(own), access).tenant.tenant_id == "acme"
    for changed in ({"tenant_id": "globex"}, {"sub": "someone-else"}, {"token_use": "access"}):
        assert code_of(lambda c=changed: verifier.id_token(signed({**own, **c}), access)) == "invalid_token"


def test_where_sts_is_shown_the_id_token_every_request_brings_the_callers_own() -> None:
    verifier = TokenVerifier(ISSUER, CLIENT, lambda _: jwks(), "id")
    own = claims(token_use="id", client_id=None, jti=None)
    sent = {"authorization": f"Bearer {signed(claims())}"}
    id_token = signed(own)
    assert verifier.caller({**sent, ID_TOKEN_HEADER.lower(): id_token}).id_token == id_token
    for strange in (
        None,
        "",
        "a.b.c",
        signed(claims()),
        signed({**own, "tenant_id": "globex"}),
        signed({**own, "sub": "x"}),
    ):
        headers = {**sent, ID_TOKEN_HEADER: strange} if strange is not None else sent
        assert code_of(lambda h=headers: verifier.caller(h)) == "invalid_token"


def test_elsewhere_nobody_looks_at_an_id_token(verifier: TokenVerifier) -> None:
    sent = {"Authorization": f"Bearer {signed(claims())}", ID_TOKEN_HEADER: "a.b.c"}
    assert verifier.caller(sent).id_token == ""


@pytest.mark.parametrize("other", ["", "ID", "both", "access,id"])
def test_sts_is_shown_one_of_two_tokens(other: str) -> None:
    with pytest.raises(ConfigurationError, match="expected access or id"):
        TokenVerifier(ISSUER, CLIENT, lambda _: jwks(), other)


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"Authorization": ""},
        {"Authorization": "Basic abc"},
        {"Authorization": "Bearer "},
        {"authorization": "Bearer abc", "Authorization": "Bearer abc"},
    ],
)
def test_without_one_bearer_token_the_caller_is_refused(headers: dict[str, str] | None) -> None:
    assert code_of(lambda: bearer(headers)) == "invalid_token"


def test_the_bearer_scheme_has_no_case() -> None:
    assert bearer({"authorization": "bearer abc"}) == "abc"


@pytest.mark.parametrize("error", [OSError("no route"), ValueError("no JSON")])
def test_an_issuer_that_can_not_be_asked_is_our_fault_and_not_the_callers(error: Exception) -> None:
    def fetch(_: str) -> dict[str, Any]:
        raise error

    with pytest.raises(Refused) as refused:
        SigningKeys(ISSUER, fetch).get("any")
    assert refused.value.reason.code == "internal"


def test_keys_are_fetched_once_and_again_only_for_new_ids_after_a_pause() -> None:
    now, fetched = [0.0], []

    def fetch(issuer: str) -> dict[str, Any]:
        fetched.append(issuer)
        return jwks()

    keys = SigningKeys(ISSUER, fetch, clock=lambda: now[0])
    assert keys.get("key-1") is not None
    assert keys.get("key-1") is not None
    assert len(fetched) == 1
    for _ in range(5):
        assert keys.get("made-up") is None
    assert len(fetched) == 1, "made-up key ids must not reach the identity provider"
    now[0] = 61.0
    assert keys.get("made-up") is None
    assert len(fetched) == 2


def _hmac_signed(payload: dict[str, Any], secret: bytes) -> str:
    # By hand: the library refuses to sign with a public key, which is what this attack does.
    import base64
    import hashlib
    import hmac
    import json

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    head = part(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "key-1"}).encode())
    body = part(json.dumps(payload).encode())
    return f"{head}.{body}.{part(hmac.new(secret, f'{head}.{body}'.encode(), hashlib.sha256).digest())}"


ANN = TenantContext("acme", "basic", "ann", 0)


def test_an_own_session_id_is_taken() -> None:
    session_id = new_session_id("acme", "ann")
    assert require_own(session_id, ANN) == session_id
    assert 33 <= len(session_id) <= 100


@pytest.mark.parametrize(
    "session_id",
    [
        None,
        "",
        "s" * 40,
        new_session_id("acme", "bob"),
        new_session_id("globex", "ann"),
        new_session_id("acme", "ann")[:-1],
        new_session_id("acme", "ann") + "\n",
        new_session_id("acme", "ann").upper(),
        "../" + new_session_id("acme", "ann"),
    ],
    ids=["none", "empty", "no hash", "another user", "another tenant", "short", "line end", "upper case", "path"],
)
def test_any_other_session_id_is_refused(session_id: str | None) -> None:
    with pytest.raises(Refused) as caught:
        require_own(session_id, ANN)
    assert caught.value.reason.code == "session_not_yours"


def test_tenant_and_subject_do_not_run_into_each_other() -> None:
    # "ab" + "c" and "a" + "bc": without the separator both would have one hash.
    assert new_session_id("abc", "d-e")[:24] != new_session_id("abc-d", "e")[:24]
