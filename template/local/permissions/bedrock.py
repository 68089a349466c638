"""Bedrock: models, cross-Region inference profiles and guardrails; knowledge bases.

Source: Amazon Bedrock User Guide, "Prerequisites for inference profiles" and "Use a global
inference profile": a call through a profile needs the profile and the model in every Region that
it may run in.
"""

import re
from collections.abc import Mapping
from typing import Any

from ..operations import Call
from .common import needed as needed_by_name
from .permission import Permission, text_context

_ACTIONS: Mapping[str, str] = {
    "Converse": "InvokeModel",
    "InvokeModel": "InvokeModel",
    "ConverseStream": "InvokeModelWithResponseStream",
    "InvokeModelWithResponseStream": "InvokeModelWithResponseStream",
    "InvokeModelWithBidirectionalStream": "InvokeModelWithBidirectionalStream",
}

# Regions that a geographic profile may use. They differ by model: these are common to most.
_GEOGRAPHIES: Mapping[str, frozenset[str]] = {
    "us": frozenset({"us-east-1", "us-east-2", "us-west-2"}),
    "eu": frozenset({"eu-central-1", "eu-north-1", "eu-west-1", "eu-west-3"}),
    "apac": frozenset({"ap-northeast-1", "ap-south-1", "ap-southeast-1", "ap-southeast-2"}),
    "jp": frozenset({"ap-northeast-1", "ap-northeast-3"}),
    "au": frozenset({"ap-southeast-2", "ap-southeast-4"}),
}
_PROFILE = re.compile(rf"(global|{'|'.join(_GEOGRAPHIES)})\.(.+)")


def needed(call: Call, account: str) -> list[Permission]:
    """Inference on a model or profile, and its guardrail; the rest by the operation's name."""
    if call.operation == "ApplyGuardrail":
        return [_guardrail(call, account, call.params["guardrailIdentifier"])]
    if call.operation not in _ACTIONS:
        return [
            Permission(p.action.replace("bedrock-runtime:", "bedrock:"), p.resource)
            for p in needed_by_name(call, account)
        ]
    guard = _guardrail_of(call)
    permissions = _inference(call, account, _guardrail_context(call, account, guard))
    if guard.get("guardrailIdentifier"):
        permissions.append(_guardrail(call, account, guard["guardrailIdentifier"]))
    return permissions


# Direct ingestion needs the permission to start an ingestion job too (Bedrock User Guide, "Prerequisites for direct
# ingestion").
_DIRECT_INGESTION = frozenset({"IngestKnowledgeBaseDocuments", "DeleteKnowledgeBaseDocuments"})


def needed_for_knowledge_bases(call: Call, account: str) -> list[Permission]:
    """By the operation's name, on the knowledge base: no condition key tells a data source, a document or a filter."""
    identifier = call.params.get("knowledgeBaseId")
    if not identifier:
        return needed_by_name(call, account)
    arn = f"arn:aws:bedrock:{call.region}:{account}:knowledge-base/{identifier}"
    actions = [call.operation, *(["StartIngestionJob"] if call.operation in _DIRECT_INGESTION else [])]
    resource = identifier if identifier.startswith("arn:") else arn
    return [Permission(f"bedrock:{action}", resource) for action in actions]


def _inference(call: Call, account: str, context: Mapping[str, str | list[str]]) -> list[Permission]:
    action = f"bedrock:{_ACTIONS[call.operation]}"
    model = str(call.params["modelId"])
    name = model.rpartition("/")[2] if ":inference-profile/" in model else model
    profile = _PROFILE.fullmatch(name)
    if profile is None:
        arn = model if model.startswith("arn:") else _model(call.region, model)
        return [Permission(action, arn, context)]
    geography, foundation = profile.groups()
    arn = f"arn:aws:bedrock:{call.region}:{account}:inference-profile/{name}"
    arn = model if model.startswith("arn:") else arn
    regions = {call.region} | _GEOGRAPHIES.get(geography, frozenset())
    through = {**context, "bedrock:InferenceProfileArn": arn}
    permissions = [Permission(action, arn, context)]
    permissions += [Permission(action, _model(r, foundation), through) for r in sorted(regions)]
    if geography == "global":
        anywhere = {**through, "aws:RequestedRegion": "unspecified"}
        permissions.append(Permission(action, _model("", foundation), anywhere))
    return permissions


def _model(region: str, model: str) -> str:
    return f"arn:aws:bedrock:{region}::foundation-model/{model}"


def _guardrail_of(call: Call) -> Mapping[str, Any]:
    """Converse takes it in a member of its own, InvokeModel among its parameters."""
    return call.params.get("guardrailConfig") or call.params


def _guardrail_context(call: Call, account: str, guard: Mapping[str, Any]) -> Mapping[str, str | list[str]]:
    identifier, version = guard.get("guardrailIdentifier"), guard.get("guardrailVersion")
    if not identifier:
        return {}
    arn = _guardrail_arn(call, account, identifier)
    numbered = version and version != "DRAFT"
    return text_context({"bedrock:GuardrailIdentifier": f"{arn}:{version}" if numbered else arn})


def _guardrail(call: Call, account: str, identifier: str) -> Permission:
    return Permission("bedrock:ApplyGuardrail", _guardrail_arn(call, account, identifier))


def _guardrail_arn(call: Call, account: str, identifier: str) -> str:
    if identifier.startswith("arn:"):
        return identifier
    return f"arn:aws:bedrock:{call.region}:{account}:guardrail/{identifier}"
