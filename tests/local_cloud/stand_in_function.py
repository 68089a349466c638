"""A Lambda function for the tests of the local cloud: what it does stands in its environment."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import boto3

built: list[dict[str, str]] = []
"""The environments that handlers were built with, in this order."""

received: list[Any] = []
"""The events that handlers got, in this order."""


def create(environ: Mapping[str, str], session: boto3.Session) -> Callable[[Any, Any], Any]:
    """A handler that answers as `ANSWER` says: JSON, `raise`, `identity`, `context`, `event` or `proxy`."""
    built.append(dict(environ))
    answer = environ.get("ANSWER", "null")

    def handle(event: Any, context: Any) -> Any:
        received.append(event)
        if answer == "raise":
            raise PermissionError("not today")
        if answer == "identity":
            return session.client("sts").get_caller_identity()["Arn"]
        if answer == "context":
            return [context.function_name, context.invoked_function_arn, "ANSWER" in os.environ]
        if answer == "event":
            return event
        if answer == "proxy":
            return {"statusCode": 200, "body": json.dumps(event)}
        if isinstance(event, dict) and "response" in event:
            return {**event, "response": json.loads(answer)}
        return answer

    return handle
