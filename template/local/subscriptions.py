"""CloudWatch Logs subscriptions: what is written to a log group reaches the functions that asked for it.

As on AWS (CloudWatch Logs user guide, "Log group-level subscription filters"): a batch of events
goes out gzipped, to be invoked asynchronously, and whoever subscribes a function that Logs may not
invoke is refused. Patterns of terms are understood, those on JSON fields are not.
"""

import base64
import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from moto.logs.exceptions import InvalidParameterException
from moto.logs.models import LogsBackend, LogStream

from .functions import Functions
from .patching import replaced

_SERVICE = "logs.amazonaws.com"


@contextmanager
def install(functions: Functions) -> Iterator[None]:
    """Deliver to deployed functions for as long as the context lasts."""
    subscribe: Callable[..., None] = vars(LogsBackend)["put_subscription_filter"]

    def put_subscription_filter(
        backend: LogsBackend,
        log_group_name: str,
        filter_name: str,
        filter_pattern: str,
        destination_arn: str,
        role_arn: str,
    ) -> None:
        if filter_pattern.strip().startswith("{"):
            raise InvalidParameterException("the local cloud has no patterns on JSON fields: use terms")
        group = backend.groups.get(log_group_name)
        if group and not functions.may_be_invoked(_SERVICE, f"{group.arn}:*", destination_arn):
            raise InvalidParameterException(
                "Could not execute the lambda function. Make sure you have given CloudWatch Logs permission to "
                "execute your function."
            )
        subscribe(backend, log_group_name, filter_name, filter_pattern, destination_arn, role_arn)

    def send(
        stream: LogStream,
        *,
        service: str,
        destination_arn: str,
        filter_name: str,
        log_events: list[dict[str, Any]],
    ) -> None:
        terms = stream.log_group.subscription_filters[filter_name].filter_pattern.split()
        chosen = [
            {**event, "id": f"{event['id']:056d}"}
            for event in log_events
            if all(term.strip('"') in event["message"] for term in terms)
        ]
        if chosen:
            source = f"{stream.log_group.arn}:*"
            functions.deliver(_SERVICE, source, destination_arn, batch(stream, filter_name, chosen))

    with (
        replaced(LogsBackend, put_subscription_filter=put_subscription_filter),
        replaced(LogStream, _send_log_events=send),
    ):
        yield


def batch(stream: LogStream, filter_name: str, events: list[dict[str, Any]]) -> Mapping[str, Any]:
    """The event in which a function gets log events."""
    message = {
        "messageType": "DATA_MESSAGE",
        "owner": stream.account_id,
        "logGroup": stream.log_group.name,
        "logStream": stream.log_stream_name,
        "subscriptionFilters": [filter_name],
        "logEvents": events,
    }
    data = gzip.compress(json.dumps(message, separators=(",", ":")).encode())
    return {"awslogs": {"data": base64.b64encode(data).decode()}}
