"""A deployed stage as its users and its attackers see it: the local cloud or AWS, through the same calls."""

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import boto3
import jwt
import urllib3

from saas_agent import wiring
from saas_agent.control_plane.onboarding import Tenants
from saas_agent.control_plane.registry import Registry
from saas_agent.control_plane.users import Users
from saas_agent.settings import Settings
from saas_agent.tenancy.access import TenantAccess, TenantSession
from saas_agent.tenancy.session import new_session_id
from saas_agent.tenancy.tenant import TenantContext
from saas_agent.tenancy.tiers import load_tiers
from saas_agent.tenancy.token import ID_TOKEN_HEADER, VerifiedToken

SESSION_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"

Mint = Callable[[Mapping[str, Any]], str]
"""Claims -> a token signed with the user pool's own key. Only the local cloud can do that."""


@dataclass(frozen=True)
class Tokens:
    """What a sign-in gives."""

    access: str = field(repr=False)
    id: str = field(repr=False)


@dataclass(frozen=True)
class Actor:
    """A signed-in user of a tenant. `canary` is a text that stands in this tenant's data and nowhere else."""

    tenant: TenantContext
    email: str
    password: str = field(repr=False)
    tokens: Tokens = field(repr=False)
    canary: str

    @property
    def name(self) -> str:
        """The tenant's id."""
        return self.tenant.tenant_id

    def new_session_id(self) -> str:
        """A session id of this user's own."""
        return new_session_id(self.tenant.tenant_id, self.tenant.subject)


@dataclass(frozen=True)
class Answer:
    """The runtime's answer. `body`: the parsed JSON, or the raw text of anything else."""

    status: int
    body: Any
    seconds: float

    @property
    def text(self) -> str:
        """Everything that came back, for looking for what must not be in it."""
        return self.body if isinstance(self.body, str) else json.dumps(self.body)


class Stage:
    """One deployed stage. `outputs`: the platform stack's. `mint`: see `Mint`; None on AWS."""

    def __init__(
        self, session: boto3.Session, outputs: Mapping[str, str], endpoint: str, mint: Mint | None = None
    ) -> None:
        self.session = session
        self.outputs = outputs
        self.mint = mint
        self.invocations = f"{endpoint}/runtimes/{quote(outputs['RuntimeArn'], safe='')}/invocations"
        self._http = urllib3.PoolManager(retries=False, timeout=120.0)
        self._cognito = session.client("cognito-idp")
        self.users = Users(self._cognito, outputs["UserPoolId"])
        registry = Registry(session.client("dynamodb"), outputs["RegistryTable"])
        self.tenants = Tenants(registry, self.users, load_tiers())
        runtime = session.client("bedrock-agentcore-control").get_agent_runtime(agentRuntimeId=outputs["RuntimeId"])
        self.settings = Settings.from_environ(
            {"AWS_REGION": str(session.region_name), **runtime["environmentVariables"]}
        )
        self._exchange = wiring.credential_exchange(self.settings, session)

    def onboard(self, tenant_id: str, tier: str, email: str | None = None) -> Actor:
        """Onboards the tenant, gives its administrator a password, and signs in."""
        email = email or f"admin@{tenant_id}.example"
        password = f"Aa1!{secrets.token_urlsafe(18)}"
        self.tenants.onboard(tenant_id, tier=tier, admin=email, invite=False)
        self.users.set_password(email, password)
        return self.actor(email, password)

    def actor(self, email: str, password: str) -> Actor:
        """Signs the user in."""
        tokens = self.sign_in(email, password)
        # Not verified here: the token comes straight from the identity provider.
        claims = jwt.decode(tokens.access, options={"verify_signature": False})
        tenant = TenantContext(claims["tenant_id"], claims["tier"], claims["sub"], int(claims["exp"]))
        return Actor(tenant, email, password, tokens, f"canary-{secrets.token_hex(8)}")

    def sign_in(self, email: str, password: str) -> Tokens:
        """Access and ID token, as the pre-token function lets them be issued; botocore's ClientError otherwise."""
        answer = self._cognito.admin_initiate_auth(
            UserPoolId=self.outputs["UserPoolId"],
            ClientId=self.outputs["ClientId"],
            AuthFlow="ADMIN_USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": email, "PASSWORD": password},
        )["AuthenticationResult"]
        return Tokens(answer["AccessToken"], answer["IdToken"])

    def access(self, actor: Actor) -> TenantAccess:
        """The actor's AWS credentials, got as the runtime gets them."""
        raw = actor.tokens.access if self.settings.sts_token == "access" else actor.tokens.id
        credentials = self._exchange(VerifiedToken(actor.tenant, raw))
        return TenantAccess(actor.tenant, TenantSession(credentials, self.settings.region))

    def doors(self, actor: Actor) -> wiring.Doors:
        """The actor's own doors."""
        return wiring.open_doors(self.settings, self.access(actor))

    def ask(self, actor: Actor, prompt: str, session_id: str | None = None) -> Answer:
        """Asks the agent as this user."""
        return self.invoke({"prompt": prompt}, actor.tokens.access, session_id or actor.new_session_id(), actor)

    def invoke(
        self,
        payload: object,
        token: str | None,
        session_id: str | None,
        actor: Actor | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Sends anything at all to the runtime: `payload` as JSON, or bytes as they are."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if session_id is not None:
            sent[SESSION_HEADER] = session_id
        if actor is not None and self.settings.sts_token == "id":
            sent[ID_TOKEN_HEADER] = actor.tokens.id
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        began = time.perf_counter()
        response = self._http.request("POST", self.invocations, body=body, headers=sent)
        text = response.data.decode(errors="replace")
        seconds = time.perf_counter() - began
        try:
            return Answer(response.status, json.loads(text), seconds)
        except ValueError:
            return Answer(response.status, text, seconds)
