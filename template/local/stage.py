"""A deployed stage as its users and its attackers see it: the local cloud or AWS, through the same calls."""

import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

import boto3
import jwt
import urllib3
from botocore.exceptions import ClientError
from strands.tools.registry import ToolRegistry

from local import services
from local.managed_login import ManagedLogin, SignInRefused, at_loopback
from saas_agent import wiring
from saas_agent.control_plane.client import AdminClient
from saas_agent.control_plane.connection import api_url
from saas_agent.control_plane.identity import open_identity
from saas_agent.control_plane.registry import Registry, TenantRecord
from saas_agent.control_plane.users import Users
from saas_agent.settings import Settings
from saas_agent.tenancy import token
from saas_agent.tenancy.access import TemporaryCredentials, TenantAccess, TenantSession
from saas_agent.tenancy.placement import Place
from saas_agent.tenancy.session import new_session_id
from saas_agent.tenancy.tenant import TenantContext
from saas_agent.tenancy.token import ID_TOKEN_HEADER, FetchKeys, VerifiedToken
from saas_agent.toolbox import caller_tools

SESSION_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"

# The last where the tenant's pool is gone.
_SIGN_IN_REFUSALS = {
    *("NotAuthorizedException", "UserLambdaValidationException", "UserNotFoundException"),
    "ResourceNotFoundException",
}

Mint = Callable[[Mapping[str, Any], str], str]
"""(claims, issuer) -> a token that is signed with the issuer's own key. Only the local cloud can do that."""


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


class NoRuntimeCredentials(Exception):
    """The credentials of a tenant's own runtime never leave it; only the local cloud can show them."""


@dataclass(frozen=True)
class Home:
    """Where one tenant is served.

    settings: of the runtime that serves it. invocations: its address. execution_role: ARN of the role it runs in.
    tenant_role: ARN of the role that the tenant's requests run under. own: what the tenant has of its own, by the
    output of its stack. takes_id_token: whether that runtime shows STS the ID token.
    """

    settings: Settings
    invocations: str
    runtime_arn: str
    execution_role: str
    tenant_role: str
    own: Mapping[str, str]
    takes_id_token: bool

    @property
    def log_group(self) -> str:
        """Where the runtime's log is."""
        return f"/aws/bedrock-agentcore/runtimes/{self.runtime_arn.rpartition('/')[2]}-DEFAULT"

    def resource(self, component: str) -> str:
        """The name or id of the resource that holds the tenant's data."""
        variable = wiring.RESOURCES[component]
        own = {output.lower(): value for output, value in self.own.items()}
        return own.get(variable.replace("_", "").lower()) or self.settings.resource(variable)


class Stage:
    """One deployed stage.

    outputs: the platform stack's. api: the address of its API. What only the local cloud can do is None on AWS:
    `mint`, see `Mint`, and `runtime_session`, which gives the credentials of a runtime's execution role. fetch_keys:
    issuer -> JWKS.
    """

    def __init__(
        self,
        session: boto3.Session,
        outputs: Mapping[str, str],
        endpoint: str,
        mint: Mint | None = None,
        runtime_session: Callable[[Home], boto3.Session] | None = None,
        fetch_keys: FetchKeys = token.fetch_keys,
    ) -> None:
        self.session = session
        self.outputs = outputs
        self.mint = mint
        self.region = str(session.region_name)
        self._endpoint = endpoint
        self._runtime_session = runtime_session
        self._fetch_keys = fetch_keys
        self._http = urllib3.PoolManager(retries=False, timeout=120.0)
        self._cognito = session.client("cognito-idp")
        self._runtimes = session.client("bedrock-agentcore-control")
        self.identity = open_identity(session.client, outputs.__getitem__)
        self.registry = Registry(session.client("dynamodb"), outputs["RegistryTable"])
        self.api = api_url(outputs, endpoint)
        self.tenants = AdminClient(session, self.api)

    def onboard(self, tenant_id: str, tier: str, email: str | None = None) -> Actor:
        """Onboards the tenant, gives its administrator a password, and signs in."""
        email = email or f"admin@{tenant_id}.example"
        password = f"Aa1!{secrets.token_urlsafe(18)}"
        self.tenants.onboard(tenant_id, tier=tier, admin=email, invite=False)
        self.users(tenant_id).set_password(email, password)
        for service in services.found():
            if hasattr(service, "onboarded"):
                service.onboarded(self, tenant_id)
        return self.actor(tenant_id, email, password)

    def users(self, tenant_id: str) -> Users:
        """The users of the tenant's pool."""
        return self.identity.users(tenant_id, self._record(tenant_id).resources)

    def actor(self, tenant_id: str, email: str, password: str) -> Actor:
        """Signs a user of the tenant in."""
        tokens = self.sign_in(tenant_id, email, password)
        # Not verified here: the token comes straight from the identity provider.
        claims = jwt.decode(tokens.access, options={"verify_signature": False})
        tenant = TenantContext(claims["tenant_id"], claims["tier"], claims["sub"], int(claims["exp"]))
        return Actor(tenant, email, password, tokens, f"canary-{secrets.token_hex(8)}")

    def sign_in(self, tenant_id: str, email: str, password: str) -> Tokens:
        """Access and ID token for a user of the tenant, as the pre-token function lets them be issued.

        Where the tenant's runtime trusts a hub, by the hub's pages; otherwise by the API of the pool that it trusts.
        SignInRefused where they say no.
        """
        own = self._record(tenant_id).resources
        if "HubDomain" in self.outputs and "Issuer" not in own:
            answer = self.managed_login.sign_in(tenant_id, email, password)
            return Tokens(answer["access_token"], answer["id_token"])
        try:
            answer = self._cognito.admin_initiate_auth(
                UserPoolId=own.get("UserPoolId") or self.outputs["UserPoolId"],
                ClientId=own.get("ClientId") or self.outputs["ClientId"],
                AuthFlow="ADMIN_USER_PASSWORD_AUTH",
                AuthParameters={"USERNAME": email, "PASSWORD": password},
            )["AuthenticationResult"]
        except ClientError as error:
            if error.response["Error"]["Code"] not in _SIGN_IN_REFUSALS:
                raise
            raise SignInRefused(str(error)) from None
        return Tokens(answer["AccessToken"], answer["IdToken"])

    @property
    def local(self) -> bool:
        """Whether it is in the local cloud, and what stands in for third parties with it."""
        return self._endpoint.startswith("http://127.0.0.1:")

    @property
    def managed_login(self) -> ManagedLogin:
        """The application that signs users in at the hub."""
        address = f"https://{self.outputs['HubDomain']}.auth.{self.region}.amazoncognito.com"
        if self.local:
            address = at_loopback(address, self.region, self._endpoint)
        return ManagedLogin(address, self.outputs["ClientId"], self.outputs["CallbackUrl"])

    def home(self, tenant_id: str) -> Home:
        """Where the tenant is served, as the registry and its runtime say now."""
        own = self._record(tenant_id).resources
        runtime_id = own.get("RuntimeId") or self.outputs["RuntimeId"]
        runtime = self._runtimes.get_agent_runtime(agentRuntimeId=runtime_id)
        arn, environ = runtime["agentRuntimeArn"], runtime["environmentVariables"]
        return Home(
            settings=Settings.from_environ({"AWS_REGION": self.region, **environ}),
            invocations=f"{self._endpoint}/runtimes/{quote(arn, safe='')}/invocations",
            runtime_arn=arn,
            execution_role=runtime["roleArn"],
            tenant_role=own.get("TenantRoleArn") or self.outputs["TenantRoleArn"],
            own=own,
            takes_id_token=environ.get("STS_TOKEN") == "id",
        )

    def _record(self, tenant_id: str) -> TenantRecord:
        return self.registry.get(tenant_id) or self.tenants.show(tenant_id)

    def log_groups(self) -> list[str]:
        """The log groups of all runtimes."""
        shared = [self.outputs["RuntimeLogGroup"]] if "RuntimeLogGroup" in self.outputs else []
        own = [record.resources.get("RuntimeLogGroup") for record in self.registry.records()]
        return shared + [group for group in own if group]

    def owners(self) -> Callable[[str], str | None]:
        """Whose own resource an ARN is, as the registry says now; None for what tenants share."""
        own = [
            (value, set(value.split("|")), record.tenant_id)
            for record in self.registry.records()
            for key, value in record.resources.items()
            if key != "Tier"
        ]

        def owner_of(arn: str) -> str | None:
            parts = set(re.split("[:/]", arn))
            return next((tenant for value, names, tenant in own if value == arn or parts & names), None)

        return owner_of

    def place(self, actor: Actor) -> Place:
        """Where the actor's components are, and the AWS credentials that reach them, got as the runtime gets them.

        NoRuntimeCredentials on AWS, for a tenant whose runtime is its own: they never leave it.
        """
        home = self.home(actor.name)
        session = self.session
        if home.settings.tenant_id is not None:
            if self._runtime_session is None:
                raise NoRuntimeCredentials(home.runtime_arn)
            session = self._runtime_session(home)
        platform = wiring.open_platform(
            home.settings, session=session, fetch_keys=self._fetch_keys, write=lambda _: None
        )
        id_token = actor.tokens.id if home.takes_id_token else ""
        caller = VerifiedToken(actor.tenant, actor.tokens.access, id_token=id_token)
        access = platform.credentials.access(platform.exchange, caller)
        return wiring.place(platform, caller, access, platform.standings.of(access))

    def access(self, actor: Actor) -> TenantAccess:
        """The actor's AWS credentials; see `place`."""
        return self.place(actor).access

    def doors(self, actor: Actor) -> wiring.Doors:
        """The actor's own doors; see `place`."""
        return wiring.open_doors(self.place(actor))

    def tools(self, actor: Actor) -> frozenset[str]:
        """The names of the tools that the agent has for this actor."""
        # Credentials that open nothing: tools are made, none is called.
        nothing = TenantSession(TemporaryCredentials("none", "none", "none", datetime.max), self.region)
        registry = ToolRegistry()
        try:
            return frozenset(registry.process_tools(caller_tools(self._doors(actor, nothing))))
        finally:
            registry.cleanup()

    def operators_doors(self, actor: Actor) -> wiring.Doors:
        """Doors to the actor's data with the operator's credentials, where the tenant's own can't be had."""
        return self._doors(actor, self.session)

    def _doors(self, actor: Actor, session: boto3.Session) -> wiring.Doors:
        """Doors with these AWS credentials and the actor's tokens."""
        home = self.home(actor.name)
        id_token = actor.tokens.id if home.takes_id_token else ""
        access = TenantAccess(actor.tenant, session, actor.tokens.access, id_token)
        return wiring.open_doors(Place(access, home.resource))

    def ask(self, actor: Actor, prompt: str, session_id: str | None = None) -> Answer:
        """Asks the agent as this user."""
        session_id = session_id or actor.new_session_id()
        return self.invoke(actor, {"prompt": prompt}, actor.tokens.access, session_id, id_token=actor.tokens.id)

    def invoke(
        self,
        at: Actor,
        payload: object,
        access_token: str | None,
        session_id: str | None,
        *,
        headers: Mapping[str, str] | None = None,
        id_token: str | None = None,
        door: str = "invocations",
    ) -> Answer:
        """Sends anything at all to the runtime that serves `at`: `payload` as JSON, or bytes as they are.

        id_token: for a stage that shows it to STS; the others aren't sent it. door: where AgentCore takes it, such as
        `commands`.
        """
        home = self.home(at.name)
        sent = {"Content-Type": "application/json", **(headers or {})}
        if access_token is not None:
            sent["Authorization"] = f"Bearer {access_token}"
        if session_id is not None:
            sent[SESSION_HEADER] = session_id
        if id_token is not None and home.takes_id_token:
            sent[ID_TOKEN_HEADER] = id_token
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        began = time.perf_counter()
        address = home.invocations.removesuffix("invocations") + door
        response = self._http.request("POST", address, body=body, headers=sent)
        text = response.data.decode(errors="replace")
        seconds = time.perf_counter() - began
        try:
            return Answer(response.status, json.loads(text), seconds)
        except ValueError:
            return Answer(response.status, text, seconds)
