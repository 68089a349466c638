"""The workflow's steps on a tenant's users: its administrator is made, all are signed out, all are deleted."""

import json
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import boto3

from saas_agent.control_plane.registry import Registry
from saas_agent.control_plane.states import Status
from saas_agent.control_plane.steps import DONE, Handler, Task, handle_steps, owned, walk
from saas_agent.control_plane.users import User, Users
from saas_agent.settings import required


def create(environ: Mapping[str, str], session: boto3.Session) -> Handler:
    """The handler for this environment; ConfigurationError where REGISTRY_TABLE or USER_POOL_ID is missing.

    WORK_SECONDS: how long a step works before it is called again.
    """
    registry = Registry(session.client("dynamodb"), required(environ, "REGISTRY_TABLE"))
    users = Users(session.client("cognito-idp"), required(environ, "USER_POOL_ID"))
    seconds = float(required(environ, "WORK_SECONDS"))

    def create_administrator(task: Task) -> dict[str, Any]:
        record = owned(registry, task, Status.PROVISIONING)
        users.ensure_admin(task.tenant_id, record.admin, invite=bool(task.parameters["invite"]))
        return {**DONE}

    def sign_out(task: Task) -> dict[str, Any]:
        owned(registry, task, Status.SUSPENDED, Status.OFFBOARDING)
        cursor = walk(task.cursor, lambda at: users.page(task.tenant_id, at), users.sign_out, seconds)
        return {"done": not cursor, "cursor": cursor}

    def delete(task: Task) -> dict[str, Any]:
        owned(registry, task, Status.OFFBOARDING)
        found, token = json.loads(task.cursor) if task.cursor else (False, "")

        def remove(some: list[User]) -> None:
            nonlocal found
            found = found or bool(some)
            users.delete(some)

        token = walk(token, lambda at: users.page(task.tenant_id, at), remove, seconds)
        # Only a walk through the whole pool that finds nobody is the last.
        if not token and not found:
            return {**DONE}
        return {"done": False, "cursor": json.dumps([found, token]) if token else ""}

    return handle_steps(
        {
            "CreateAdministrator": create_administrator,
            "SignOutUsers": sign_out,
            "DeleteUsers": delete,
        }
    )


@cache
def _handler() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Lambda's entry point."""
    return _handler()(event, context)
