"""The function behind the gateway's target: one tool call in, its result out.

Its event is the tool's arguments, which the model wrote: nothing in them says who calls. That stands in the headers
that the interceptor set, and the token among them is verified and exchanged here as on the runtime.
"""

import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import boto3

from saas_agent.agent.gateway_tools import TOOLS
from saas_agent.errors import DENIED, INTERNAL, Refused
from saas_agent.gateway_calls import (
    TARGET,
    TENANT_HEADER,
    TIER_HEADER,
    ToolCaller,
    entitled,
    header,
    named,
    own_arguments,
)
from saas_agent.tenancy.callers import Callers
from saas_agent.tenancy.token import FetchKeys
from saas_agent.tenancy.token import fetch_keys as fetch_keys_over_https

Handler = Callable[[Any, Any], Any]

# Keys of the client context (developer guide, "Lambda function targets" and "Header propagation").
_TOOL_NAME = "bedrockAgentCoreToolName"
_HEADERS = "bedrockAgentCorePropagatedHeaders"

logger = logging.getLogger(__name__)


class NotCalled(Exception):
    """The tool was not called, or failed. The message is a code, and quotes nothing."""


def create(
    environ: Mapping[str, str], session: boto3.Session, fetch_keys: FetchKeys = fetch_keys_over_https
) -> Handler:
    """The handler for this environment; ConfigurationError where a variable is missing."""
    callers = Callers(environ, session, fetch_keys)

    def call(event: Any, context: Any) -> Any:
        try:
            custom = _custom(context)
            headers = custom.get(_HEADERS)
            if not isinstance(headers, dict):
                raise Refused(DENIED, "no headers from the gateway")
            caller = callers.of(headers)
            tenant_id, tier = caller.access.tenant.tenant_id, caller.standing.tier
            # Set by the interceptor. Without it a call didn't come its way, however good its token is.
            if (header(headers, TENANT_HEADER), header(headers, TIER_HEADER)) != (tenant_id, tier.name):
                raise Refused(DENIED, "the headers are not the interceptor's")
            tool = entitled(named(TARGET, TOOLS), custom.get(_TOOL_NAME), tier.name)
            arguments = own_arguments(tool, event)
            place = callers.place(caller)
            return tool.run(ToolCaller(place.access, tier, place.resource), **arguments)
        except Refused as refused:
            logger.warning("refused code=%s detail=%s", refused.reason.code, refused.detail)
            raise NotCalled(refused.reason.code) from None
        except Exception as error:
            # No message: it could quote the arguments.
            logger.error("failed kind=%s", type(error).__name__)
            raise NotCalled(INTERNAL.code) from None

    return call


def _custom(context: Any) -> Mapping[str, Any]:
    custom = getattr(getattr(context, "client_context", None), "custom", None)
    return custom if isinstance(custom, dict) else {}


@cache
def _handler() -> Handler:
    return create(os.environ, boto3.Session())


def handler(event: Any, context: Any) -> Any:
    """Lambda's entry point: the arguments of a tool in, what it returns out."""
    return _handler()(event, context)
