"""Step Functions: deployed state machines run by moto's engine, in their own role and without their pauses.

The definition that runs is the deployed one. Its tasks call Lambda and EventBridge through the gate with the
credentials of the state machine's role, so that the role's trust and policies decide. What it waits for is never done
sooner by waiting here: Wait states and the pauses between retries end at once.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from types import ModuleType, SimpleNamespace
from typing import Any

from botocore.config import Config
from moto.core.config import default_user_config
from moto.core.exceptions import AWSError

from .gate import Gate
from .operations import Call, ServiceError
from .patching import replaced
from .service_roles import ServiceRoles

_PRINCIPAL = "states.amazonaws.com"
_SERVICES = {"lambda", "events"}  # what tasks of a state machine may call here
_CALLS = Config(read_timeout=900, retries={"total_max_attempts": 1})  # the definition says what is tried again
_LAST_SECONDS = 10.0

_TASKS = "moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_"
# Tasks of these are not run here, and to import them takes two seconds: AWS Batch alone imports all of EC2.
_UNUSED = {"batch": "StateTaskServiceBatch", "ecs": "StateTaskServiceEcs", "glue": "StateTaskServiceGlue"}


class StateMachines:
    """Executions of the deployed state machines of one account and Region."""

    def __init__(self, account: str, region: str, roles: ServiceRoles) -> None:
        self._account = account
        self._region = region
        self._roles = roles
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._arns: dict[str, str] = {}
        self._engine: ExitStack | None = None
        self._taken_over = False
        self._lock = threading.Lock()

    def register(self, gate: Gate) -> None:
        """Answer StartExecution at the gate; moto answers the other operations."""
        gate.handle("stepfunctions", "StartExecution", self._start)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run executions for as long as the context lasts; those that are under way at its end may finish."""
        former = default_user_config["stepfunctions"]
        default_user_config["stepfunctions"] = {"execute_state_machine": True}
        try:
            with ExitStack() as self._engine:
                yield
                self._finish()
        finally:
            default_user_config["stepfunctions"] = former
            self._engine = None

    def _start(self, call: Call) -> dict[str, Any]:
        params = call.params
        with self._lock:
            self._take_over()
        backend = backend_of(self._account, self._region)
        try:
            machine = backend.describe_state_machine(params["stateMachineArn"])
            # Asked for before anything runs: a role that doesn't trust Step Functions starts nothing.
            with self._lock:
                self._arns[machine.roleArn] = machine.arn
            self._client(machine.roleArn, "lambda")
            execution = backend.start_execution(machine.arn, params.get("name"), params.get("input", "{}"))
        except AWSError as error:
            raise ServiceError(str(error.error_type), str(error.message)) from None
        return {"executionArn": execution.execution_arn, "startDate": execution.start_date}

    def _client(self, role_arn: str, service: str) -> Any:
        """A client that acts as the role, for the state machine that was started in it."""
        if service not in _SERVICES:
            raise ValueError(f"the local cloud runs no tasks of {service}: add it to local/state_machines.py")
        with self._lock:
            key = (role_arn, self._arns[role_arn], service)
            if key not in self._clients:
                session = self._roles.session(role_arn, service=_PRINCIPAL, source_arn=key[1], name="execution")
                self._clients[key] = session.client(service, config=_CALLS)
            return self._clients[key]

    def _take_over(self) -> None:
        """Let moto's engine work for this cloud; not before it is needed, since it takes a second to import."""
        if self._engine is None:
            raise ServiceError("ServiceUnavailable", "the local cloud is not running", 503)
        if not self._taken_over:
            self._engine.enter_context(_engine(self._client))
            self._taken_over = True

    def _finish(self) -> None:
        if not self._taken_over:
            return
        machines = backend_of(self._account, self._region).state_machines
        executions = [execution for machine in machines for execution in machine.executions]
        deadline = time.monotonic() + _LAST_SECONDS
        while any(x.status == "RUNNING" for x in executions) and time.monotonic() < deadline:
            time.sleep(0.01)


def backend_of(account: str, region: str) -> Any:
    """moto's state machines of this place, of the kind that runs them."""
    with _without_unused():
        from moto.stepfunctions.parser.models import stepfunctions_parser_backends

    return stepfunctions_parser_backends[account][region]


@contextmanager
def _without_unused() -> Iterator[None]:
    """Stand in for the modules of tasks that are not run here while moto's engine is imported."""
    stood_in = []
    for name, task in _UNUSED.items():
        if f"{_TASKS}{name}" not in sys.modules:
            module = ModuleType(f"{_TASKS}{name}")
            setattr(module, task, type(task, (), {}))
            sys.modules[module.__name__] = module
            stood_in.append(module.__name__)
    try:
        yield
    finally:
        for name in stood_in:
            del sys.modules[name]


@contextmanager
def _engine(client: Callable[[str, str], Any]) -> Iterator[None]:
    """moto's engine, with the tasks' calls made by `client`, and no definition parsed twice."""
    with _without_unused():
        from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
        from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
        from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_events
        from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import WaitFunction
        from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser

    def boto_client_for(region: str, service: str, state_credentials: Any = None) -> Any:
        return client(state_credentials.role_arn, service)

    # What comes out of the parser keeps nothing of an execution.
    parse = lru_cache(maxsize=64)(AmazonStateLanguageParser.parse)
    with (
        replaced(lambda_eval_utils, boto_client_for=boto_client_for),
        replaced(state_task_service_events, boto_client_for=boto_client_for),
        replaced(retrier_decl, time=SimpleNamespace(sleep=lambda _: None)),
        replaced(WaitFunction, _wait_interval=lambda *_, **__: None),
        replaced(AmazonStateLanguageParser, parse=staticmethod(parse)),
    ):
        yield
