"""The workflow's steps that end an operation: the tenant is moved to where the operation leaves it."""

import json
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import boto3

from saas_agent.control_plane.operations import Operations, Outcome
from saas_agent.control_plane.steps import Handler, Task, handle_steps
from saas_agent.settings import required
from saas_agent.tenancy.placement import load_placement


def create(environ: Mapping[str, str], session: boto3.Session) -> Handler:
    """The handler for this environment: REGISTRY_TABLE, OPERATIONS_TABLE; ConfigurationError where one is missing."""
    operations = Operations(
        session.client("dynamodb"), required(environ, "REGISTRY_TABLE"), required(environ, "OPERATIONS_TABLE")
    )
    placement = load_placement()

    def finish(task: Task) -> dict[str, Any]:
        # Of the operations that provision, each knows the tier.
        row = placement.row(task.parameters["tier"]) if "tier" in task.parameters else None
        return _told(operations.finish(task.operation_id, task.state["work"].get("outputs"), row))

    def fail(task: Task) -> dict[str, Any]:
        # The workflow notes what failed under the name of the step that did.
        [(step, error)] = task.state["failed"].items()
        return _told(operations.fail(task.operation_id, step, _reason(error)))

    return handle_steps({"Finish": finish, "Fail": fail})


def _told(outcome: Outcome) -> dict[str, Any]:
    """What the workflow announces."""
    operation, record = outcome.operation, outcome.record
    return {
        "operation_id": operation.operation_id,
        "tenant_id": operation.tenant_id,
        "kind": operation.kind,
        "state": operation.state,
        "status": record.status if record else "",
        "tier": record.tier if record else "",
        "step": operation.failure.step if operation.failure else "",
        "reason": operation.failure.reason if operation.failure else "",
    }


def _reason(error: Mapping[str, str]) -> str:
    """Why the step failed: in the words of a step that says so itself, otherwise the kind of error alone."""
    name = error.get("Error", "unknown error")
    if name not in ("StepFailed", "Throttled"):
        return name
    try:
        return str(json.loads(error["Cause"])["errorMessage"])
    except (KeyError, TypeError, ValueError):
        return name


@cache
def _handler() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point."""
    return _handler()(event, context)
