"""Which permissions a call needs, by service.

Source: the Service Authorization Reference of each service, and where that is silent its user
guide. What is not listed needs `<prefix>:<Operation>`.
"""

from collections.abc import Callable, Mapping

from ..operations import Call
from . import agentcore, bedrock, common, dynamodb, s3
from .permission import Permission

__all__ = ["Permission", "needed"]

_SERVICES: Mapping[str, Callable[[Call, str], list[Permission]]] = {
    "bedrock-agentcore": agentcore.needed,
    "bedrock-agentcore-control": agentcore.needed_for_control,
    "bedrock-agent": bedrock.needed_for_knowledge_bases,
    "bedrock-agent-runtime": bedrock.needed_for_knowledge_bases,
    "bedrock-runtime": bedrock.needed,
    "cloudformation": common.needed_for_cloudformation,
    "dynamodb": dynamodb.needed,
    "s3": s3.needed,
}


def needed(call: Call, account: str) -> list[Permission]:
    """Every permission that `call` needs in `account`; all of them must be allowed."""
    return _SERVICES.get(call.service, common.needed)(call, account)
