"""Services whose calls need one permission on one resource."""

from collections.abc import Callable, Mapping
from typing import Any

from moto.cognitoidp.models import cognitoidp_backends
from moto.secretsmanager.models import secretsmanager_backends

from ..operations import Call
from .permission import Context, Permission, text_context

# IAM's prefix where it is not the name of botocore's service.
_PREFIXES: Mapping[str, str] = {
    "bedrock-agent": "bedrock",
    "bedrock-agent-runtime": "bedrock",
    "dynamodbstreams": "dynamodb",
    "resourcegroupstaggingapi": "tag",
    "stepfunctions": "states",
}

# IAM's action where it is not the name of the operation.
_ACTIONS: Mapping[tuple[str, str], str] = {("lambda", "Invoke"): "InvokeFunction"}


def needed_for_cloudformation(call: Call, account: str) -> list[Permission]:
    """On the stack, with the role that is passed and the template that is read as the caller."""
    params, place = call.params, f"{call.region}:{account}"
    name, role, url = params.get("StackName"), params.get("RoleARN"), params.get("TemplateURL")
    if name and not name.startswith("arn:"):
        name = f"arn:aws:cloudformation:{place}:stack/{name}/*"
    keys = text_context({"cloudformation:RoleArn": role, "cloudformation:TemplateUrl": url})
    found = [Permission(f"cloudformation:{call.operation}", name or "*", keys)]
    if role:
        found.append(Permission("iam:PassRole", role, {"iam:PassedToService": "cloudformation.amazonaws.com"}))
    if url:
        bucket, _, key = url.removeprefix("https://").partition("/")
        found.append(Permission("s3:GetObject", f"arn:aws:s3:::{bucket.partition('.s3.')[0]}/{key}"))
    return found


def needed(call: Call, account: str) -> list[Permission]:
    """The permission named like the operation, on the resource that the parameters name."""
    prefix = _PREFIXES.get(call.service, call.service)
    action = _ACTIONS.get((call.service, call.operation), call.operation)
    find = _RESOURCES.get(call.service)
    resources = find(call.params, f"{call.region}:{account}") if find else ["*"]
    context = _TAGS[call.service](call, account) if call.service in _TAGS else {}
    return [Permission(f"{prefix}:{action}", resource, context) for resource in resources]


def _vector_index(params: Mapping[str, Any], place: str) -> list[str]:
    """An index, or its bucket where the call names no index."""
    bucket = params.get("vectorBucketArn") or f"arn:aws:s3vectors:{place}:bucket/{params.get('vectorBucketName')}"
    if params.get("indexArn"):
        return [params["indexArn"]]
    if not (params.get("vectorBucketArn") or params.get("vectorBucketName")):
        return ["*"]
    return [f"{bucket}/index/{params['indexName']}" if params.get("indexName") else bucket]


def _function(params: Mapping[str, Any], place: str) -> list[str]:
    name = params.get("FunctionName")
    if not name:
        return ["*"]
    if not name.startswith("arn:"):
        # A partial ARN is account:function:name.
        name = f"arn:aws:lambda:{place}:function:{name.rpartition('function:')[2]}"
    qualifier = params.get("Qualifier")
    return [f"{name}:{qualifier}" if qualifier else name]


def _log_stream(params: Mapping[str, Any], place: str) -> list[str]:
    """CloudWatch Logs judges every call on a stream's ARN, whose last part is empty for a group."""
    group = params.get("logGroupName") or params.get("logGroupIdentifier") or ""
    if group.startswith("arn:"):
        return [f"{group.removesuffix(':*')}:log-stream:"]
    stream = params.get("logStreamName") or ""
    return [f"arn:aws:logs:{place}:log-group:{group}:log-stream:{stream}"]


def _event_buses(params: Mapping[str, Any], place: str) -> list[str]:
    names = [entry.get("EventBusName", "default") for entry in params.get("Entries", [])]
    return [n if n.startswith("arn:") else f"arn:aws:events:{place}:event-bus/{n}" for n in names]


def _user_pool(params: Mapping[str, Any], place: str) -> list[str]:
    pool = params.get("UserPoolId")
    return [f"arn:aws:cognito-idp:{place}:userpool/{pool}"] if pool else ["*"]


def _user_pool_tags(call: Call, account: str) -> Context:
    """The tags of the pool that the call names: every action on a user pool can be conditioned on them."""
    pool = cognitoidp_backends[account][call.region].user_pools.get(call.params.get("UserPoolId", ""))
    tags = pool.extended_config.get("UserPoolTags") or {} if pool is not None else {}
    return {f"aws:ResourceTag/{key}": str(value) for key, value in tags.items()}


def _stored_secret(params: Mapping[str, Any], place: str) -> Any:
    """moto's secret that the call names by its name or ARN; None where there is none."""
    region, _, account = place.partition(":")
    secrets = secretsmanager_backends[account][region].secrets
    return secrets.get(params["SecretId"]) if params.get("SecretId") else None


def _secret(params: Mapping[str, Any], place: str) -> list[str]:
    """The ARN as it is stored, with its six characters, or the name's where there is no such secret."""
    named = params.get("SecretId") or params.get("Name")
    if not named:
        return ["*"]
    stored = _stored_secret(params, place)
    if stored is not None:
        return [stored.arn]
    return [named if named.startswith("arn:") else f"arn:aws:secretsmanager:{place}:secret:{named}"]


def _secret_tags(call: Call, account: str) -> Context:
    stored = _stored_secret(call.params, f"{call.region}:{account}")
    tags = {} if stored is None else {tag["Key"]: str(tag["Value"]) for tag in stored.tags or []}
    prefixes = ("aws:ResourceTag", "secretsmanager:ResourceTag")
    return {f"{prefix}/{key}": value for prefix in prefixes for key, value in tags.items()}


def _parameter(params: Mapping[str, Any], place: str) -> list[str]:
    names = params.get("Names") or [params[key] for key in ("Name", "Path") if params.get(key)]
    return [f"arn:aws:ssm:{place}:parameter/{name.lstrip('/')}" for name in names] or ["*"]


def _parameter_arn(name: str) -> Callable[[Mapping[str, Any], str], list[str]]:
    def find(params: Mapping[str, Any], place: str) -> list[str]:
        value = params.get(name)
        return [value] if isinstance(value, str) and value.startswith("arn:") else ["*"]

    return find


def _state_machine(params: Mapping[str, Any], place: str) -> list[str]:
    """A call names a state machine or one of its executions."""
    return [str(params.get("executionArn") or params.get("stateMachineArn") or "*")]


def _stream(params: Mapping[str, Any], place: str) -> list[str]:
    name = params.get("DeliveryStreamName")
    return [f"arn:aws:firehose:{place}:deliverystream/{name}"] if name else ["*"]


def _queue(params: Mapping[str, Any], place: str) -> list[str]:
    url = params.get("QueueUrl")
    return [f"arn:aws:sqs:{place}:{url.rpartition('/')[2]}"] if url else ["*"]


_RESOURCES: Mapping[str, Callable[[Mapping[str, Any], str], list[str]]] = {
    "cognito-idp": _user_pool,
    "events": lambda params, place: _event_buses(params, place) or ["*"],
    "firehose": _stream,
    "lambda": _function,
    "logs": _log_stream,
    "s3vectors": _vector_index,
    "secretsmanager": _secret,
    "sns": _parameter_arn("TopicArn"),
    "sqs": _queue,
    "ssm": _parameter,
    "stepfunctions": _state_machine,
    "sts": _parameter_arn("RoleArn"),
}

# Condition keys by service: the tags of what a call names.
_TAGS: Mapping[str, Callable[[Call, str], Context]] = {"cognito-idp": _user_pool_tags, "secretsmanager": _secret_tags}
