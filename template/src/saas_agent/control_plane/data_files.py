"""A tenant's files in a bucket, for the workflow."""

import json
from typing import Any

from saas_agent.control_plane.data import Exported, Folder, Page, Store, delete_objects


class BucketFiles(Store):
    """Every version of every object below `tenants/<id>/`. Exported are those that are the latest, under their keys."""

    def __init__(self, client: Any, bucket: str, tenant_id: str, name: str = "files") -> None:
        """`client`: a boto3 S3 client with the tenant's credentials. `name`: what the bucket's objects are called."""
        self.name = name
        self._client = client
        self._bucket = bucket
        self._prefix = f"tenants/{tenant_id}/"

    def page(self, start: str) -> Page:
        markers = dict(zip(("KeyMarker", "VersionIdMarker"), json.loads(start), strict=True)) if start else {}
        answer = self._client.list_object_versions(Bucket=self._bucket, Prefix=self._prefix, **markers)
        after = json.dumps([answer["NextKeyMarker"], answer["NextVersionIdMarker"]]) if answer["IsTruncated"] else ""
        return Page([*answer.get("Versions", []), *answer.get("DeleteMarkers", [])], after)

    def export(self, page: Page, number: int, folder: Folder) -> list[Exported]:
        # A delete marker has no size.
        latest = [version for version in page.items if version["IsLatest"] and "Size" in version]
        return [
            folder.copy(
                f"{self.name}/{version['Key'].removeprefix(self._prefix)}",
                {"Bucket": self._bucket, "Key": version["Key"]},
                version["Size"],
            )
            for version in latest
        ]

    def delete(self, page: Page) -> None:
        versions = [{"Key": version["Key"], "VersionId": version["VersionId"]} for version in page.items]
        delete_objects(self._client, self._bucket, versions)

    def left(self, page: Page) -> int:
        return len(page.items)
