"""Cognito of the local cloud: tokens, triggers, and who may sign in and write what."""

import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from .local_stacks import Operator, function, operator, role, values

CODE = "cognito-code"
PASSWORD = "Passw0rd!-of-ann"
EMAIL = "ann@acme.example"
ADMIN_FLOW = "ADMIN_USER_PASSWORD_AUTH"
SCHEMA = [
    {"Name": "tenant_id", "AttributeDataType": "String", "Mutable": False},
    {"Name": "note", "AttributeDataType": "String", "Mutable": True},
]


class Pool:
    """A user pool with one user, as her client and as the operator use it."""

    def __init__(self, op: Operator, outputs: dict[str, str]) -> None:
        self.op = op
        self.id, self.client_id = outputs["Pool"], outputs["Client"]
        session = op.cloud.operator_session()
        self.browser = session.client("cognito-idp", config=Config(signature_version=UNSIGNED))
        attributes = {"email": EMAIL, "custom:tenant_id": "acme"}
        self.op.cognito.admin_create_user(
            UserPoolId=self.id,
            Username=EMAIL,
            MessageAction="SUPPRESS",
            UserAttributes=[{"Name": k, "Value": v} for k, v in attributes.items()],
        )
        self.op.cognito.admin_set_user_password(UserPoolId=self.id, Username=EMAIL, Password=PASSWORD, Permanent=True)

    def sign_in(self, flow: str = ADMIN_FLOW, **parameters: str) -> dict[str, Any]:
        given = parameters or {"USERNAME": EMAIL, "PASSWORD": PASSWORD}
        answer: dict[str, Any] = self.op.cognito.admin_initiate_auth(
            UserPoolId=self.id, ClientId=self.client_id, AuthFlow=flow, AuthParameters=given
        )
        return dict(answer["AuthenticationResult"])

    def refuses(self, call: Any, **arguments: Any) -> str:
        """The error's code; the refusal is in the record of decisions."""
        position = self.op.cloud.decisions.position()
        with pytest.raises(ClientError) as caught:
            call(**arguments)
        told = self.op.cloud.decisions.since(position)
        assert [(d.allowed, d.action.split(":")[0]) for d in told[-1:]] == [(False, "cognito-idp")]
        return str(caught.value.response["Error"]["Code"])


@pytest.fixture(scope="module")
def op() -> Iterator[Operator]:
    with operator() as running:
        running.upload(CODE, "code.zip")
        yield running


def make_pool(op: Operator, name: str, answer: Any = None, permission: bool = True, **client: Any) -> Pool:
    """A pool with the stand-in function as trigger, which answers `answer`; None: no trigger."""
    pool = {
        "UserPoolName": name,
        "Schema": SCHEMA,
        "UsernameAttributes": ["email"],
        "AdminCreateUserConfig": {"AllowAdminCreateUserOnly": True},
    }
    settings = {
        "UserPoolId": {"Ref": "Pool"},
        "ExplicitAuthFlows": [
            "ALLOW_ADMIN_USER_PASSWORD_AUTH",
            "ALLOW_REFRESH_TOKEN_AUTH",
            "ALLOW_USER_SRP_AUTH",
        ],
        "WriteAttributes": ["name", "custom:note"],
        **client,
    }
    resources: dict[str, Any] = {
        "Pool": {"Type": "AWS::Cognito::UserPool", "Properties": pool},
        "Client": {"Type": "AWS::Cognito::UserPoolClient", "Properties": settings},
    }
    if answer is not None:
        arn = {"Fn::GetAtt": ["Function", "Arn"]}
        pool["LambdaConfig"] = {"PreTokenGenerationConfig": {"LambdaArn": arn, "LambdaVersion": "V2_0"}}
        text = answer if isinstance(answer, str) else json.dumps(answer)
        resources["FunctionRole"] = role("lambda.amazonaws.com")
        resources["Function"] = function(CODE, text, FunctionName=f"{name}-trigger")
    if answer is not None and permission:
        allowed = {
            "FunctionName": arn,
            "Action": "lambda:InvokeFunction",
            "Principal": "cognito-idp.amazonaws.com",
            "SourceArn": {"Fn::GetAtt": ["Pool", "Arn"]},
        }
        resources["Permission"] = {"Type": "AWS::Lambda::Permission", "Properties": allowed}
    outputs = values(Pool={"Ref": "Pool"}, Client={"Ref": "Client"})
    return Pool(op, op.create(name, resources, Outputs=outputs))


@pytest.fixture(scope="module")
def plain(op: Operator) -> Pool:
    """A pool without a trigger."""
    return make_pool(op, "plain")


def claims(token: str) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return decoded


def override(access: Any = None, identity: Any = None, **more: Any) -> dict[str, Any]:
    details = {"accessTokenGeneration": access, "idTokenGeneration": identity, **more}
    return {"claimsAndScopeOverrideDetails": details}


# --- Tokens ---------------------------------------------------------------------------------------


def test_without_a_trigger_the_id_token_alone_has_custom_attributes(plain: Pool) -> None:
    tokens = plain.sign_in()
    assert claims(tokens["IdToken"])["custom:tenant_id"] == "acme"
    access = claims(tokens["AccessToken"])
    assert "custom:tenant_id" not in access
    assert "aud" not in access


def test_tokens_end_when_the_client_says_so(op: Operator) -> None:
    units = {"AccessToken": "minutes", "IdToken": "hours"}
    pool = make_pool(op, "short", AccessTokenValidity=5, IdTokenValidity=2, TokenValidityUnits=units)
    tokens = pool.sign_in()
    assert tokens["ExpiresIn"] == 300
    for token, seconds in ((tokens["AccessToken"], 300), (tokens["IdToken"], 7200)):
        assert claims(token)["exp"] - time.time() == pytest.approx(seconds, abs=5)


def test_the_trigger_adds_and_takes_away(op: Operator) -> None:
    tags = {"principal_tags": {"TenantId": ["acme"]}}
    access = {
        "claimsToAddOrOverride": {"tenant_id": "acme", "https://aws.amazon.com/tags": tags},
        "scopesToAdd": ["agent/invoke"],
        "scopesToSuppress": ["aws.cognito.signin.user.admin"],
    }
    identity = {
        "claimsToAddOrOverride": {"tier": "basic"},
        "claimsToSuppress": ["custom:tenant_id"],
    }
    pool = make_pool(op, "changed", override(access, identity))
    tokens = pool.sign_in()
    made = claims(tokens["AccessToken"])
    assert made["https://aws.amazon.com/tags"] == tags
    assert (made["tenant_id"], made["scope"]) == ("acme", "agent/invoke")
    made = claims(tokens["IdToken"])
    assert made["tier"] == "basic"
    assert "custom:tenant_id" not in made
    assert "tenant_id" not in made


def test_the_trigger_gets_the_documented_event_once_per_sign_in(op: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make_pool(op, "asked", override())
    events: list[dict[str, Any]] = []
    invoke = op.cloud._functions.invoke

    def listen(name: str, event: dict[str, Any]) -> Any:
        events.append(event)
        return invoke(name, event)

    monkeypatch.setattr(op.cloud._functions, "invoke", listen)
    refresh = pool.sign_in()["RefreshToken"]
    pool.sign_in("REFRESH_TOKEN_AUTH", REFRESH_TOKEN=refresh)
    first, second = events
    assert first["version"] == "2"
    assert first["triggerSource"] == "TokenGeneration_Authentication"
    assert second["triggerSource"] == "TokenGeneration_RefreshTokens"
    assert first["userPoolId"] == pool.id
    assert first["callerContext"]["clientId"] == pool.client_id
    attributes = first["request"]["userAttributes"]
    assert attributes["custom:tenant_id"] == "acme"
    assert attributes["cognito:user_status"] == "CONFIRMED"
    assert first["userName"] == attributes["sub"]
    assert first["request"]["scopes"] == ["aws.cognito.signin.user.admin"]
    assert first["response"] == {"claimsAndScopeOverrideDetails": None}


def test_the_audience_of_an_access_token_can_only_be_its_client(op: Operator) -> None:
    pool = make_pool(op, "audience", override({"claimsToAddOrOverride": {"aud": "another"}}))
    assert pool.refuses(pool.sign_in) == "InvalidLambdaResponseException"


@pytest.mark.parametrize("claim", ["sub", "iss", "exp", "client_id", "cognito:username", "dev:x"])
def test_the_trigger_can_not_set_what_cognito_keeps_for_itself(op: Operator, claim: str) -> None:
    name = f"reserved-{claim.replace(':', '-').replace('_', '-')}"
    pool = make_pool(op, name, override({"claimsToAddOrOverride": {claim: "x"}}))
    assert pool.refuses(pool.sign_in) == "InvalidLambdaResponseException"


def test_the_id_tokens_audience_is_out_of_reach(op: Operator) -> None:
    pool = make_pool(op, "id-audience", override(None, {"claimsToSuppress": ["aud"]}))
    assert pool.refuses(pool.sign_in) == "InvalidLambdaResponseException"


def test_no_token_without_the_triggers_consent(op: Operator) -> None:
    pool = make_pool(op, "raising", "raise")
    assert pool.refuses(pool.sign_in) == "UserLambdaValidationException"
    with pytest.raises(ClientError, match="PreTokenGeneration failed with error not today"):
        pool.sign_in()


def test_cognito_needs_the_permission_to_invoke(op: Operator) -> None:
    pool = make_pool(op, "unpermitted", override(), permission=False)
    assert pool.refuses(pool.sign_in) == "UnexpectedLambdaException"


def test_a_trigger_that_answers_nonsense_is_refused(op: Operator) -> None:
    pool = make_pool(op, "nonsense", {"claimsAndScopeOverrideDetails": "none"})
    assert pool.refuses(pool.sign_in) == "InvalidLambdaResponseException"


# --- Who may sign in ------------------------------------------------------------------------------


def test_a_flow_that_the_client_does_not_allow_is_refused(plain: Pool) -> None:
    parameters = {"USERNAME": EMAIL, "PASSWORD": PASSWORD}
    code = plain.refuses(
        plain.browser.initiate_auth,
        ClientId=plain.client_id,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters=parameters,
    )
    assert code == "InvalidParameterException"


def test_a_proof_that_can_not_be_verified_is_not_taken_for_one(plain: Pool) -> None:
    code = plain.refuses(
        plain.browser.initiate_auth,
        ClientId=plain.client_id,
        AuthFlow="USER_SRP_AUTH",
        AuthParameters={"USERNAME": EMAIL, "SRP_A": "1"},
    )
    assert code == "InvalidParameterException"
    code = plain.refuses(
        plain.browser.respond_to_auth_challenge,
        ClientId=plain.client_id,
        ChallengeName="PASSWORD_VERIFIER",
        ChallengeResponses={"USERNAME": EMAIL},
    )
    assert code == "InvalidParameterException"


def test_a_client_that_hides_users_answers_alike_whether_there_is_one(op: Operator) -> None:
    hiding = make_pool(op, "hiding", PreventUserExistenceErrors="ENABLED")
    open_pool = make_pool(op, "open")
    nobody = {"USERNAME": "nobody@acme.example", "PASSWORD": PASSWORD}
    assert hiding.refuses(hiding.sign_in, **nobody) == "NotAuthorizedException"
    assert hiding.refuses(hiding.sign_in, USERNAME=EMAIL, PASSWORD="x") == "NotAuthorizedException"
    assert open_pool.refuses(open_pool.sign_in, **nobody) == "UserNotFoundException"


def test_nobody_signs_up_or_takes_over_by_a_code(plain: Pool) -> None:
    code = plain.refuses(
        plain.browser.sign_up,
        ClientId=plain.client_id,
        Username="eve@acme.example",
        Password=PASSWORD,
        UserAttributes=[{"Name": "custom:tenant_id", "Value": "acme"}],
    )
    assert code == "NotAuthorizedException"
    plain.refuses(plain.browser.forgot_password, ClientId=plain.client_id, Username=EMAIL)
    plain.refuses(
        plain.browser.confirm_forgot_password,
        ClientId=plain.client_id,
        Username=EMAIL,
        ConfirmationCode="123456",
        Password="Taken0ver!-by-eve",
    )
    assert plain.sign_in()["AccessToken"]


def test_a_new_password_is_chosen_by_its_own_user(op: Operator) -> None:
    pool = make_pool(op, "invited", override())
    eve = "eve@acme.example"
    pool.op.cognito.admin_create_user(
        UserPoolId=pool.id, Username=eve, TemporaryPassword=PASSWORD, MessageAction="SUPPRESS"
    )

    def challenged() -> dict[str, Any]:
        answer: dict[str, Any] = op.cognito.admin_initiate_auth(
            UserPoolId=pool.id,
            ClientId=pool.client_id,
            AuthFlow=ADMIN_FLOW,
            AuthParameters={"USERNAME": eve, "PASSWORD": PASSWORD},
        )
        return answer

    def respond(username: str) -> dict[str, Any]:
        answer: dict[str, Any] = pool.browser.respond_to_auth_challenge(
            ClientId=pool.client_id,
            ChallengeName="NEW_PASSWORD_REQUIRED",
            Session=challenged()["Session"],
            ChallengeResponses={"USERNAME": username, "NEW_PASSWORD": "Chosen0!-by-eve"},
        )
        return answer

    assert challenged()["ChallengeName"] == "NEW_PASSWORD_REQUIRED"
    assert pool.refuses(respond, username=EMAIL) == "NotAuthorizedException"
    assert respond(eve)["AuthenticationResult"]["AccessToken"]


def test_signing_out_and_disabling_end_what_was_issued(op: Operator) -> None:
    pool = make_pool(op, "ended")
    user = op.cognito.admin_get_user(UserPoolId=pool.id, Username=EMAIL)["Username"]
    tokens = pool.sign_in()
    # By the internal name, though she signed in by her address.
    op.cognito.admin_user_global_sign_out(UserPoolId=pool.id, Username=user)
    refresh = {"flow": "REFRESH_TOKEN_AUTH", "REFRESH_TOKEN": tokens["RefreshToken"]}
    assert pool.refuses(pool.sign_in, **refresh) == "NotAuthorizedException"
    code = pool.refuses(
        pool.browser.update_user_attributes,
        AccessToken=tokens["AccessToken"],
        UserAttributes=[{"Name": "name", "Value": "Ann"}],
    )
    assert code == "NotAuthorizedException"

    refresh["REFRESH_TOKEN"] = pool.sign_in()["RefreshToken"]
    op.cognito.admin_disable_user(UserPoolId=pool.id, Username=EMAIL)
    assert pool.refuses(pool.sign_in) == "NotAuthorizedException"
    assert pool.refuses(pool.sign_in, **refresh) == "NotAuthorizedException"


def test_no_refusal_quotes_a_token(plain: Pool) -> None:
    position = plain.op.cloud.decisions.position()
    token = plain.sign_in()["AccessToken"]
    plain.op.cognito.admin_user_global_sign_out(UserPoolId=plain.id, Username=EMAIL)
    with pytest.raises(ClientError):
        plain.browser.update_user_attributes(AccessToken=token, UserAttributes=[])
    assert token not in str(plain.op.cloud.decisions.since(position))


# --- Who may write what ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("custom:tenant_id", "NotAuthorizedException"),
        ("email", "NotAuthorizedException"),
        ("custom:other", "NotAuthorizedException"),
        ("sub", "NotAuthorizedException"),
    ],
)
def test_a_user_writes_only_what_her_client_may(plain: Pool, name: str, code: str) -> None:
    token = plain.sign_in()["AccessToken"]
    changed = [{"Name": name, "Value": "globex"}]
    update = plain.browser.update_user_attributes
    assert plain.refuses(update, AccessToken=token, UserAttributes=changed) == code
    allowed = [{"Name": "name", "Value": "Ann"}, {"Name": "custom:note", "Value": "n"}]
    update(AccessToken=token, UserAttributes=allowed)


def test_a_client_without_a_list_writes_no_custom_attribute(op: Operator) -> None:
    pool = make_pool(op, "unlisted", WriteAttributes=[])
    token = pool.sign_in()["AccessToken"]
    update = pool.browser.update_user_attributes
    custom = [{"Name": "custom:note", "Value": "n"}]
    assert pool.refuses(update, AccessToken=token, UserAttributes=custom)
    update(AccessToken=token, UserAttributes=[{"Name": "name", "Value": "Ann"}])


def test_nobody_changes_an_immutable_attribute(plain: Pool) -> None:
    who = {"UserPoolId": plain.id, "Username": EMAIL}
    changed = [{"Name": "custom:tenant_id", "Value": "globex"}]
    update, delete = (
        plain.op.cognito.admin_update_user_attributes,
        plain.op.cognito.admin_delete_user_attributes,
    )
    assert plain.refuses(update, **who, UserAttributes=changed) == "InvalidParameterException"
    assert plain.refuses(delete, **who, UserAttributeNames=["custom:tenant_id"])
    unknown = [{"Name": "custom:unknown", "Value": "x"}]
    assert plain.refuses(update, **who, UserAttributes=unknown) == "InvalidParameterException"
    update(**who, UserAttributes=[{"Name": "custom:note", "Value": "n"}])
    attributes = plain.op.cognito.admin_get_user(**who)["UserAttributes"]
    assert {"Name": "custom:tenant_id", "Value": "acme"} in attributes
