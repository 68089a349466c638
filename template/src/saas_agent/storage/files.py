"""The tenant's files in the bucket: one prefix, `tenants/<id>/`, that no caller can leave."""

import re
from typing import Any

from botocore.exceptions import ClientError

from saas_agent.tenancy.access import TenantAccess, seen_when_denied

_MAX_NAME = 512  # bytes; with the prefix well under S3's 1,024
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\]")
_LINK_SECONDS = 300


def tenant_prefix(tenant_id: str) -> str:
    """What every key of the tenant begins with."""
    return f"tenants/{tenant_id}/"


def tenant_key(tenant_id: str, name: str) -> str:
    """The key of a tenant's file; ValueError for a name that is no relative path."""
    if not isinstance(name, str) or not name or len(name.encode()) > _MAX_NAME or _FORBIDDEN.search(name):
        raise ValueError(f"the file name is malformed; expected a relative path of at most {_MAX_NAME} bytes")
    # S3 takes "..", but what reads its keys later (a browser, a download to disk) may resolve it.
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError("the file name has an empty part, '.' or '..'; expected a path such as reports/2026.pdf")
    return tenant_prefix(tenant_id) + name


class Files:
    """One tenant's prefix. Every method works below it alone, with the tenant's own credentials.

    A name is a relative path such as `reports/2026.pdf`. All methods raise ValueError for a name that is not one, and
    Refused (denied) where IAM says no.
    """

    def __init__(self, access: TenantAccess, bucket: str) -> None:
        self._tenant = access.tenant
        self._client = access.client("s3")
        self._bucket = bucket
        self._prefix = tenant_prefix(access.tenant.tenant_id)

    def put(self, name: str, content: bytes, *, content_type: str = "application/octet-stream") -> None:
        """Writes the file, over one of the same name."""
        with seen_when_denied("files.put", self._tenant):
            self._client.put_object(Bucket=self._bucket, Key=self._key(name), Body=content, ContentType=content_type)

    def get(self, name: str) -> bytes | None:
        """The file's content, or None where there is no such file.

        S3 answers 403 for a missing key too, unless the caller may list the prefix; the tenant may.
        """
        with seen_when_denied("files.get", self._tenant):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._key(name))
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchKey":
                    return None
                raise
            content: bytes = answer["Body"].read()
            return content

    def list(self, below: str = "") -> list[str]:
        """The names of the files, sorted; with `below`, of those in that folder."""
        prefix = f"{self._key(below)}/" if below else self._prefix
        names: list[str] = []
        page: dict[str, Any] = {}
        while True:
            with seen_when_denied("files.list", self._tenant):
                answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **page)
            names += [found["Key"].removeprefix(self._prefix) for found in answer.get("Contents", [])]
            if not answer.get("IsTruncated"):
                return names
            page = {"ContinuationToken": answer["NextContinuationToken"]}

    def delete(self, name: str) -> None:
        """Deletes the file, if it is there."""
        with seen_when_denied("files.delete", self._tenant):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(name))

    def download_link(self, name: str, *, seconds: int = _LINK_SECONDS) -> str:
        """A link that reads this one file, for `seconds` at most and never longer than the tenant's credentials."""
        return self._link("get_object", name, seconds)

    def upload_link(self, name: str, *, seconds: int = _LINK_SECONDS) -> str:
        """A link that writes this one file, for `seconds` at most and never longer than the tenant's credentials."""
        return self._link("put_object", name, seconds)

    def _link(self, method: str, name: str, seconds: int) -> str:
        parameters = {"Bucket": self._bucket, "Key": self._key(name)}
        link: str = self._client.generate_presigned_url(method, Params=parameters, ExpiresIn=seconds)
        return link

    def _key(self, name: str) -> str:
        return tenant_key(self._tenant.tenant_id, name)
