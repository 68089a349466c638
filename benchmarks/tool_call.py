"""What gateway and interceptor add to a tool call. Runs in a generated repository: `python tool_call.py`, prints JSON.

The same tool is called in turns through the gateway, as an agent does over MCP, and in its function itself, with the
headers that the interceptor would set. Both over HTTP to the same local cloud; both verify the token and look the
tenant up.
"""

import base64
import json
import statistics
import sys
import time
from typing import Any

import urllib3

from local.cloud import LocalCloud
from local.stage import Actor, Stage
from saas_agent.gateway_calls import SEPARATOR, TARGET, TENANT_HEADER, TIER_HEADER
from saas_agent.tenancy.placement import load_placement

ROUNDS, CALLS, WARM_UP = 5, 40, 10
TOOL = f"{TARGET}{SEPARATOR}show_account"


def measure() -> dict[str, Any]:
    """Medians in milliseconds over all calls, and the median of the rounds' added time."""
    with LocalCloud(load_placement().region, agent=False) as cloud:
        cloud.deploy()
        stage = cloud.stage()
        actor = stage.onboard("bench", "basic")
        ways = {"gateway": _through_gateway(stage, actor), "function": _function_itself(stage, actor)}
        for call in ways.values():
            for _ in range(WARM_UP):
                call()
        added, times = [], {name: list[float]() for name in ways}
        for _ in range(ROUNDS):
            taken = {name: list[float]() for name in ways}
            for _ in range(CALLS):
                for name, call in ways.items():
                    began = time.perf_counter()
                    call()
                    taken[name].append((time.perf_counter() - began) * 1000)
            added.append(statistics.median(taken["gateway"]) - statistics.median(taken["function"]))
            for name, values in taken.items():
                times[name] += values
    return {
        "gateway_ms": statistics.median(times["gateway"]),
        "function_ms": statistics.median(times["function"]),
        "added_ms": statistics.median(added),
        "rounds": ROUNDS,
        "calls": ROUNDS * CALLS,
    }


def _through_gateway(stage: Stage, actor: Actor) -> Any:
    http, url = urllib3.PoolManager(), stage.home(actor.name).resource("gateway")
    headers = {"Authorization": f"Bearer {actor.tokens.access}", "Content-Type": "application/json"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": TOOL, "arguments": {}}}

    def call() -> None:
        answer = http.request("POST", url, body=json.dumps(body), headers=headers)
        if json.loads(answer.data).get("result", {}).get("isError") is not False:
            sys.exit(f"the gateway answered {answer.status}: {answer.data[:200]!r}")

    return call


def _function_itself(stage: Stage, actor: Actor) -> Any:
    functions = stage.session.client("lambda")
    name = f"{stage.outputs['Service']}-{stage.outputs['Stage']}-gateway-tools"
    headers = {
        "Authorization": f"Bearer {actor.tokens.access}",
        TENANT_HEADER: actor.name,
        TIER_HEADER: actor.tenant.tier,
    }
    custom = {"bedrockAgentCoreToolName": TOOL, "bedrockAgentCorePropagatedHeaders": headers}
    context = base64.b64encode(json.dumps({"custom": custom}).encode()).decode()

    def call() -> None:
        answer = functions.invoke(FunctionName=name, Payload=b"{}", ClientContext=context)
        if "FunctionError" in answer:
            sys.exit(f"the function answered {answer['Payload'].read()[:200]!r}")

    return call


if __name__ == "__main__":
    import logging

    logging.disable()
    print(json.dumps(measure()))
