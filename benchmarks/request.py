"""What the tenancy layers add to a request. Runs in a generated repository: `python request.py`, printing JSON.

Two servers of the same agent answer in turns on the same local cloud: as shipped, and with every tenancy layer removed
(no verification of tokens, no session binding, no exchange for credentials, no registry, no judged calls, nobody who
keeps usage records). Model, memory, tools and limits are the same.
"""

import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import urllib3
from bedrock_agentcore.runtime import BedrockAgentCoreApp
from starlette.responses import JSONResponse

from local.agent_server import AgentServer
from local.cloud import LocalCloud
from local.stage import SESSION_HEADER, Actor, Stage
from saas_agent import main, wiring
from saas_agent.conversation import converse
from saas_agent.metering.rates import RateCard
from saas_agent.metering.usage import Meter
from saas_agent.tenancy.access import TemporaryCredentials, TenantAccess, TenantSession
from saas_agent.tenancy.placement import Place, load_placement
from saas_agent.tenancy.tiers import load_tiers

ROUNDS, REQUESTS, WARM_UP = 5, 30, 10
# What is left to do once an answer is out must not be in the next one's time.
PAUSE_SECONDS = 0.03


def measure() -> dict[str, dict[str, float]]:
    """Of a warm request, whose session is open, and of the first of a session.

    Medians in milliseconds over all requests, and the median of the rounds' added time.
    """
    with LocalCloud(load_placement().region) as cloud:
        cloud.deploy()
        stage = cloud.stage()
        actor = stage.onboard("bench", "basic")
        keys = cloud.keys
        settings = stage.home(actor.name).settings
        shipped = main.create_app(settings, session=stage.session, fetch_keys=keys, write=lambda _: None)
        with _served(shipped) as full, _served(_bare(cloud, stage, actor)) as bare:
            return {
                "warm": _compare(full, bare, actor, of_open_session=True),
                "first": _compare(full, bare, actor, of_open_session=False),
            }


def _compare(full: int, bare: int, actor: Actor, *, of_open_session: bool) -> dict[str, float]:
    http = urllib3.PoolManager()
    added, times = [], {"shipped": [], "bare": []}
    for port in (full, bare):
        session = actor.new_session_id()
        for _ in range(WARM_UP):
            _ask(http, port, actor, session)
    for _ in range(ROUNDS):
        sessions = {name: actor.new_session_id() for name in times}
        for name, port in (("shipped", full), ("bare", bare)):
            _ask(http, port, actor, sessions[name])
        taken: dict[str, list[float]] = {"shipped": [], "bare": []}
        for _ in range(REQUESTS):
            for name, port in (("shipped", full), ("bare", bare)):
                session = sessions[name] if of_open_session else actor.new_session_id()
                taken[name].append(_ask(http, port, actor, session))
        added.append(statistics.median(taken["shipped"]) - statistics.median(taken["bare"]))
        for name, values in taken.items():
            times[name] += values
    return {
        "shipped_ms": statistics.median(times["shipped"]),
        "bare_ms": statistics.median(times["bare"]),
        "added_ms": statistics.median(added),
        "rounds": ROUNDS,
        "requests": ROUNDS * REQUESTS,
    }


def _bare(cloud: LocalCloud, stage: Stage, actor: Actor) -> BedrockAgentCoreApp:
    operator = TemporaryCredentials(
        cloud.operator.access_key_id, cloud.operator.secret_access_key, "", datetime.now(UTC) + timedelta(hours=1)
    )
    access = TenantAccess(actor.tenant, TenantSession(operator, stage.region))
    home = stage.home(actor.name)
    meter = Meter("bench", "bench", RateCard([]), lambda _: None)
    tier = load_tiers()["basic"]
    app = BedrockAgentCoreApp()

    @app.entrypoint
    def invoke(payload: dict[str, Any], context: Any) -> JSONResponse:
        with meter.invocation(request_id="") as usage:
            events = converse(
                payload["prompt"],
                session_id=context.session_id,
                tier=tier,
                doors=wiring.open_doors(Place(access, home.resource)),
                usage=usage,
                settings=home.settings,
                require_served=lambda: None,
            )
            text = [event["text"] for event in main._one_by_one(events) if event["type"] == "text"]
        return JSONResponse({"answer": "".join(text)})

    return app


@contextmanager
def _served(app: Any) -> Iterator[int]:
    server = AgentServer(app)
    try:
        yield server.port
    finally:
        server.stop()


def _ask(http: urllib3.PoolManager, port: int, actor: Actor, session: str) -> float:
    headers = {
        "Authorization": f"Bearer {actor.tokens.access}",
        SESSION_HEADER: session,
        "Content-Type": "application/json",
    }
    body = json.dumps({"prompt": "hello"})
    began = time.perf_counter()
    answer = http.request("POST", f"http://127.0.0.1:{port}/invocations", body=body, headers=headers)
    seconds = time.perf_counter() - began
    time.sleep(PAUSE_SECONDS)
    if answer.status != 200:
        sys.exit(f"the agent answered {answer.status}: {answer.data[:200]!r}")
    return seconds * 1000


if __name__ == "__main__":
    import logging

    logging.disable()
    print(json.dumps(measure()))
