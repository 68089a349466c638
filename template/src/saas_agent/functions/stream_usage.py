"""The ledger's function for a stage with analytics: what it counts it also sends to the stream."""

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import boto3

from saas_agent.functions import record_usage
from saas_agent.metering.analytics import UsageStream
from saas_agent.metering.usage import write_stdout
from saas_agent.settings import required


def create(
    environ: Mapping[str, str], session: boto3.Session, write: Callable[[str], object] = write_stdout
) -> record_usage.Handler:
    """The handler for this environment: USAGE_STREAM, and what `record_usage.create` asks for."""
    stream = UsageStream(session.client("firehose"), required(environ, "USAGE_STREAM"))
    return record_usage.create(environ, session, write, also=stream.send)


@cache
def _deployed() -> record_usage.Handler:
    return create(os.environ, boto3.Session())


def handler(event: dict[str, Any], context: object) -> dict[str, int]:
    """Lambda's entry point."""
    return _deployed()(event, context)
