"""The local cloud: everything that the platform needs of AWS, in this process, at one address."""

import os
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
from moto.core.base_backend import BackendDict

from saas_agent import configuration

from . import bedrock, cognito, dynamodb, memory, serialization, services, sts, subscriptions
from .api_gateway import ApiGateway
from .authorization import Credentials, DecisionLog
from .cognito_domains import Domains
from .delivery_streams import DeliveryStreams
from .environment import keep_service_models, pointed_at
from .event_bus import EventBuses
from .formation import Formation
from .functions import Functions
from .gate import Gate
from .runtime import RuntimeFront
from .service_roles import ServiceRoles
from .state_machines import StateMachines

if TYPE_CHECKING:
    from .stage import Home, Stage

ACCOUNT = "123456789012"
STAGE = "local"

_COGNITO = "cognito-idp.amazonaws.com"
_POLL_SECONDS = 0.05  # how soon the server notices that it is to stop


class LocalCloudError(OSError):
    """The local cloud can't start. One line: what is wrong, and what to do."""


class LocalCloud:
    """A cloud of one account in one Region, empty at the start and gone at the end.

    A context manager. While it runs, AWS clients of this process reach it through AWS_ENDPOINT_URL;
    their credentials decide what they may do. One can run in a process at a time.

    Attributes:
        endpoint: its address, `http://127.0.0.1:<port>`.
        operator: credentials of the platform's operator, who may do everything.
        decisions: every decision on a call, a token or a role.
        buses: the event buses, with what was put there.
    """

    _only = threading.Lock()

    def __init__(self, region: str, port: int = 0, agent: bool = True) -> None:
        """`port`: 0 picks a free one. `agent`: False leaves out the runtime's front door."""
        self.region = region
        self.decisions = DecisionLog()
        self.operator = Credentials("AKIA" + secrets.token_hex(8).upper(), secrets.token_urlsafe(30))
        self.endpoint = ""
        self._port = port
        self._service: str = configuration.load("placement.toml")["service"]["name"]
        self._formation = Formation(ACCOUNT, region)
        self._gate = Gate(account=ACCOUNT, region=region, operator=self.operator, decisions=self.decisions)
        self._roles = ServiceRoles(self._gate)
        self._functions = Functions(ACCOUNT, region, self._roles, self.keys)
        self._machines = StateMachines(ACCOUNT, region, self._roles)
        self._streams = DeliveryStreams(ACCOUNT, region, self._roles)
        self._apis = ApiGateway(ACCOUNT, region, self._functions, self._gate.authorizer)
        self.buses = EventBuses(ACCOUNT, region)
        self._front = self._make_front() if agent else None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            starting.enter_context(_only_one(self._only))
            try:
                brain = bedrock.choose(os.environ, self.region)
            except ValueError as error:
                raise LocalCloudError(str(error)) from None
            BackendDict.reset()
            keep_service_models()
            sts.register(self._gate, jwks=self.keys)
            memory.register(self._gate)
            bedrock.register(self._gate, brain)
            for service in services.found():
                if hasattr(service, "register"):
                    service.register(self._gate)
            self._functions.register(self._gate)
            self._apis.register(self._gate)
            self._machines.register(self._gate)
            self._streams.register(self._gate)
            self.buses.register(self._gate)
            self._formation.register(self._gate)
            starting.enter_context(serialization.install())
            starting.enter_context(dynamodb.install())
            starting.enter_context(subscriptions.install(self._functions))
            issue = starting.enter_context(cognito.install(self._run_trigger, self._record_refusal))
            documents = cognito.Documents(ACCOUNT, self.region)
            self._gate.route(documents.prefix, documents)
            Domains(ACCOUNT, self.region, issue, self._record_refusal).register(self._gate)
            if self._front:
                self._gate.route("/runtimes/", self._front)
                self._gate.route("/ping", self._front)
                starting.callback(self._front.stop)
            self.endpoint = starting.enter_context(_served(self._gate, self._port))
            starting.enter_context(pointed_at(self.endpoint))
            starting.enter_context(self._machines.running())
            self._open = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def operator_session(self) -> boto3.Session:
        """A boto3 session with the operator's credentials."""
        return boto3.Session(
            aws_access_key_id=self.operator.access_key_id,
            aws_secret_access_key=self.operator.secret_access_key,
            region_name=self.region,
        )

    def deploy(self, settings: Mapping[str, str] | None = None, template: Path | None = None) -> dict[str, str]:
        """Deploy the platform by the same code as on AWS; its stack's outputs.

        Args:
            settings: parameters of the platform stack; what is not given stays as it was, but for `Tracing`: none.
            template: another platform template than the one that ships.

        Raises:
            infra.deploy.DeployError: a stack failed.
        """
        from infra import deploy, package  # needed by nobody who doesn't deploy
        from infra.progress import Progress

        chosen = settings or {}
        return deploy.deploy(
            self.operator_session(),
            stage=STAGE,
            # The source tree runs, so the zips need no dependencies.
            packages=package.build(dependencies=False, tracing=chosen.get("Tracing", "none")),
            confirm=lambda _: True,
            progress=Progress(),
            service=self._service,
            region=self.region,
            settings={**self._led_here(), **chosen},
            template=template or deploy.PLATFORM,
        )

    def _led_here(self) -> dict[str, str]:
        """Parameters that lead the platform to what stands in for others than AWS."""
        led = (service.settings(self.endpoint) for service in services.found() if hasattr(service, "settings"))
        return {name: value for parameters in led for name, value in parameters.items()}

    @property
    def outputs(self) -> dict[str, str]:
        """Outputs of the platform stack; empty before it is deployed."""
        return self._formation.outputs(f"{self._service}-{STAGE}-platform")

    def stage(self) -> "Stage":
        """The deployed platform as its users and attackers see it."""
        from .stage import Stage  # imports the agent's side, which not everybody needs

        return Stage(self.operator_session(), self.outputs, self.endpoint, self.mint, self._runtime_session, self.keys)

    def mint(self, claims: Mapping[str, Any], issuer: str) -> str:
        """A token of exactly these claims under the key of the user pool that is this issuer."""
        return cognito.mint(ACCOUNT, self.region, issuer.rpartition("/")[2], claims)

    def _runtime_session(self, home: "Home") -> boto3.Session:
        runtime, service = home.runtime_arn, "bedrock-agentcore.amazonaws.com"
        return self._roles.session(home.execution_role, service=service, source_arn=runtime, name="attacker")

    def flush(self) -> None:
        """Return when everything that the agents wrote is in their log groups, and what it is in the ledger."""
        if self._front:
            self._front.flush()

    # --- How the parts reach each other -----------------------------------------------------------

    def _make_front(self) -> RuntimeFront:
        return RuntimeFront(
            ACCOUNT,
            self.region,
            roles=self._roles,
            decisions=self.decisions,
            fetch_keys=self.keys,
        )

    def keys(self, issuer: str) -> dict[str, Any]:
        return cognito.issuer_keys(ACCOUNT, self.region, issuer)

    def _run_trigger(self, function_arn: str, pool_arn: str, event: dict[str, Any]) -> Any:
        return self._functions.invoke_for(_COGNITO, pool_arn, function_arn, event)

    def _record_refusal(self, operation: str, reason: str) -> None:
        self.decisions.append(
            principal="a caller of Cognito",
            action=f"cognito-idp:{operation}",
            resource=f"arn:aws:cognito-idp:{self.region}:{ACCOUNT}:userpool/*",
            allowed=False,
            source="authorizer",
            reason=reason,
        )


@contextmanager
def _only_one(lock: threading.Lock) -> Iterator[None]:
    if not lock.acquire(blocking=False):
        raise LocalCloudError("a local cloud runs in this process already: stop it first")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _served(gate: Gate, port: int) -> Iterator[str]:
    """The gate's address while a thread serves it."""
    _require_free(port)
    server = gate.server(port)
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), name="local-cloud", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _require_free(port: int) -> None:
    """LocalCloudError when the port is in use; the server itself would end the process."""
    if not 0 <= port <= 65535:
        raise LocalCloudError(f"port {port}: expected a number from 1 to 65535, or 0 for any that is free")
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise LocalCloudError(
            f"port {port} of 127.0.0.1 can't be used ({error.strerror}): stop what uses it, or choose another port"
        ) from None
