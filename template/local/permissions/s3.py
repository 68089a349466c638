"""S3: objects, versions, copies, lists by prefix."""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from ..operations import Call, ServiceError
from .permission import Context, Permission, text_context

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

_OBJECT_ACTIONS: Mapping[str, str] = {
    "GetObject": "GetObject",
    "HeadObject": "GetObject",
    "SelectObjectContent": "GetObject",
    "GetObjectTorrent": "GetObjectTorrent",
    "PutObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "ListParts": "ListMultipartUploadParts",
}

_BUCKET_ACTIONS: Mapping[str, str] = {
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListBuckets": "ListAllMyBuckets",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "DeleteBucketEncryption": "PutEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
}

# With a version id in the request these need the permission on versions instead.
_VERSIONED = frozenset(
    {
        "DeleteObject",
        "DeleteObjectTagging",
        "GetObject",
        "GetObjectAcl",
        "GetObjectAttributes",
        "GetObjectTagging",
        "PutObjectAcl",
        "PutObjectTagging",
    }
)


def needed(call: Call, account: str) -> list[Permission]:
    """Objects by key, the rest by bucket; several keys or a copy need several permissions.

    Raises:
        ServiceError: the bucket's name is not one, so that nobody can tell where it ends.
    """
    bucket = call.params.get("Bucket")
    if bucket is not None and not _BUCKET.fullmatch(bucket):
        raise ServiceError("InvalidBucketName", "The specified bucket is not valid.")
    derive = _OPERATIONS.get(call.operation)
    if derive is not None:
        return derive(call.params)
    if call.params.get("Key") is not None:
        return _object_call(call)
    action = _BUCKET_ACTIONS.get(call.operation, call.operation)
    resource = f"arn:aws:s3:::{bucket}" if bucket else "*"
    return [Permission(f"s3:{action}", resource, _list_context(call.params))]


def _object_call(call: Call) -> list[Permission]:
    params = call.params
    action = _OBJECT_ACTIONS.get(call.operation, call.operation)
    resource = _object(params["Bucket"], params["Key"])
    context = _write_context(params)
    permissions = [Permission(_action(action, params.get("VersionId")), resource, context)]
    if call.operation == "GetObjectAttributes":
        permissions.append(Permission(_action("GetObject", params.get("VersionId")), resource))
    return permissions + _written_with(params, resource)


def _written_with(params: Mapping[str, Any], resource: str) -> list[Permission]:
    """What a write sets besides the object needs its own permission."""
    extra = []
    if isinstance(params.get("Tagging"), str):
        extra.append(Permission("s3:PutObjectTagging", resource))
    if params.get("Body") is not None and any(_grants(params)):
        extra.append(Permission("s3:PutObjectAcl", resource, _write_context(params)))
    return extra


def _grants(params: Mapping[str, Any]) -> list[Any]:
    names = ("ACL", "GrantFullControl", "GrantRead", "GrantReadACP", "GrantWriteACP")
    return [params.get(name) for name in names]


def _copy(params: Mapping[str, Any]) -> list[Permission]:
    destination = _object(params["Bucket"], params["Key"])
    source, version = _copy_source(params["CopySource"])
    return [
        Permission(_action("GetObject", version), source),
        Permission("s3:PutObject", destination, _write_context(params)),
        *_written_with({**params, "Body": b""}, destination),
    ]


def _copy_source(text: str) -> tuple[str, str | None]:
    """ARN and version of a copy's source, split exactly as moto splits it."""
    source = urlparse(text)
    bucket, _, key = unquote(source.path).lstrip("/").partition("/")
    if source.netloc or source.scheme or not _BUCKET.fullmatch(bucket) or not key:
        raise ServiceError("InvalidArgument", "The copy source must be bucket/key.")
    return _object(bucket, key), parse_qs(source.query).get("versionId", [None])[0]


def _delete_many(params: Mapping[str, Any]) -> list[Permission]:
    return [
        Permission(_action("DeleteObject", item.get("VersionId")), _object(params["Bucket"], item["Key"]))
        for item in params["Delete"]["Objects"]
    ]


_OPERATIONS: Mapping[str, Callable[[Mapping[str, Any]], list[Permission]]] = {
    "CopyObject": _copy,
    "UploadPartCopy": _copy,
    "DeleteObjects": _delete_many,
}


def _object(bucket: str, key: str) -> str:
    return f"arn:aws:s3:::{bucket}/{key}"


def _action(action: str, version: str | None) -> str:
    if version is None or action not in _VERSIONED:
        return f"s3:{action}"
    parts = re.fullmatch(r"(\w+Object)(\w*)", action)
    return f"s3:{parts[1]}Version{parts[2]}" if parts else f"s3:{action}"


def _list_context(params: Mapping[str, Any]) -> Context:
    return text_context(
        {
            "s3:prefix": params.get("Prefix"),
            "s3:delimiter": params.get("Delimiter"),
            "s3:max-keys": params.get("MaxKeys"),
        }
    )


def _write_context(params: Mapping[str, Any]) -> Context:
    return text_context(
        {
            "s3:x-amz-acl": params.get("ACL"),
            "s3:x-amz-copy-source": params.get("CopySource"),
            "s3:x-amz-server-side-encryption": params.get("ServerSideEncryption"),
            "s3:x-amz-server-side-encryption-aws-kms-key-id": params.get("SSEKMSKeyId"),
            "s3:VersionId": params.get("VersionId"),
        }
    )
