"""A tenant's data, store by store: exported, deleted, looked for. For the workflow, never for the agent.

Every store is reached with credentials that are tagged with the tenant and good for it alone. A store is walked page by
page, so that no step has to do more than fits into its time, and what is walked twice comes to the same.
"""

import base64
import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from saas_agent.control_plane.errors import ControlPlaneError

FORMAT = 1
"""Of an export's manifest."""

_LONGEST_KEY = 1024  # bytes; of S3


@dataclass(frozen=True)
class Page:
    """A part of what a store holds of the tenant. items: in the store's own form, if any. after: empty at the end."""

    items: Sequence[Any]
    after: str


@dataclass(frozen=True)
class Exported:
    """An object of an export. items: how many records it holds. sha256: of its bytes, in hex.

    name: the key that it would have, were that not too long for S3.
    """

    key: str
    items: int
    bytes: int
    sha256: str
    name: str | None = None

    def listed(self) -> dict[str, Any]:
        """As the manifest lists it."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class Folder:
    """Where an export goes: a prefix of the exports bucket that is the tenant's own."""

    def __init__(self, client: Any, bucket: str, tenant_id: str, operation_id: str) -> None:
        """`client`: a boto3 S3 client with the tenant's credentials."""
        self._client = client
        self._bucket = bucket
        self._prefix = f"tenants/{tenant_id}/{operation_id}/"

    def write_lines(self, name: str, lines: Iterable[Mapping[str, Any]]) -> list[Exported]:
        """Writes JSON lines; nothing where there are none."""
        texts = [json.dumps(line, default=_plain, ensure_ascii=False) for line in lines]
        if not texts:
            return []
        content = "".join(f"{text}\n" for text in texts).encode()
        self._put(name, content)
        return [Exported(name, len(texts), len(content), hashlib.sha256(content).hexdigest())]

    def copy(self, name: str, source: Mapping[str, str], size: int) -> Exported:
        """Copies an object, `source` as `CopyObject` takes it, within S3.

        An export's keys are longer than those of the tenant, who may have used up what S3 takes: then it is named by a
        digest, below a folder of its own, where no name that a tenant gives leads.
        """
        fits = len((self._prefix + name).encode()) <= _LONGEST_KEY
        key = name if fits else f"long-names/{hashlib.sha256(name.encode()).hexdigest()}"
        answer = self._client.copy_object(
            Bucket=self._bucket, Key=self._prefix + key, CopySource=dict(source), ChecksumAlgorithm="SHA256"
        )
        sha256 = _hex(answer["CopyObjectResult"]["ChecksumSHA256"])
        return Exported(key, 1, size, sha256, None if fits else name)

    def complete(self) -> bool:
        """Whether the export in it is: its manifest is written at last."""
        return self.read("manifest.json") is not None

    def read(self, name: str) -> Any:
        """The JSON object of this name; None where there is none."""
        key = self._prefix + name
        # Asked for by listing: to get what isn't there is denied to those who may list a prefix alone.
        found = self._client.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1).get("Contents", [])
        if [entry["Key"] for entry in found] != [key]:
            return None
        return json.loads(self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read())

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON object."""
        self._put(name, json.dumps(content, indent=1).encode())

    def remove(self, name: str) -> None:
        """Removes the object of this name, if it is there."""
        self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def _put(self, name: str, content: bytes) -> None:
        self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=content)


class Store(ABC):
    """One of the places that hold a tenant's data. name: of its part of an export."""

    name: str

    @abstractmethod
    def page(self, start: str) -> Page:
        """The page that begins at `start`: empty for the first, then what the page before named `after`."""

    @abstractmethod
    def export(self, page: Page, number: int, folder: Folder) -> list[Exported]:
        """Copies the page's items; `number`: how many pages came before it."""

    @abstractmethod
    def delete(self, page: Page) -> None:
        """Deletes the page's items. Safe to repeat."""

    @abstractmethod
    def left(self, page: Page) -> int:
        """How much of the page's items there still is."""


class Exports(Store):
    """What was exported before. Exports hold no exports; `keep`: the folder of the export that stays, if any."""

    name = "exports"

    def __init__(self, client: Any, bucket: str, tenant_id: str, keep: str | None) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"tenants/{tenant_id}/"
        self._kept = f"{self._prefix}{keep}/" if keep else None

    def page(self, start: str) -> Page:
        after = {"StartAfter": start} if start else {}
        answer = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, **after)
        keys = [entry["Key"] for entry in answer.get("Contents", [])]
        doomed = [key for key in keys if self._kept is None or not key.startswith(self._kept)]
        return Page(doomed, keys[-1] if answer["IsTruncated"] else "")

    def export(self, page: Page, number: int, folder: Folder) -> list[Exported]:
        return []

    def delete(self, page: Page) -> None:
        delete_objects(self._client, self._bucket, [{"Key": key} for key in page.items])

    def left(self, page: Page) -> int:
        return len(page.items)


def delete_objects(client: Any, bucket: str, objects: Sequence[Mapping[str, str]]) -> None:
    """Deletes up to a thousand objects or versions; ControlPlaneError where S3 kept one."""
    if not objects:
        return
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": list(objects), "Quiet": True})
    if errors := answer.get("Errors"):
        raise ControlPlaneError(f"S3 kept {len(errors)} objects: {errors[0].get('Code')}; retry the operation")


def _plain(value: object) -> str:
    """What JSON has no form for: times in ISO 8601, bytes in base64."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"an export can't hold a {type(value).__name__}")


def _hex(digest: str) -> str:
    """A digest in base64, in hex."""
    return base64.b64decode(digest).hex()


@dataclass
class _Position:
    """Where a walk through several stores is."""

    store: int = 0
    start: str = ""
    number: int = 0

    @classmethod
    def of(cls, cursor: str) -> "_Position":
        return cls(**json.loads(cursor)) if cursor else cls()


class Data:
    """All that there is of one tenant. seconds: how long a call works before it says where it is."""

    def __init__(self, stores: Sequence[Store], seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stores = stores
        self._seconds = seconds
        self._clock = clock

    def delete(self, cursor: str) -> str:
        """Deletes everything; where to go on, empty when it is done."""
        return self._walk(cursor, lambda store, page, _: store.delete(page))

    def check(self, cursor: str) -> str:
        """Looks everywhere; where to go on, empty when nothing was found. ControlPlaneError names what was."""

        def look(store: Store, page: Page, _: int) -> None:
            if left := store.left(page):
                raise ControlPlaneError(
                    f"{left} or more of the tenant's {store.name} are still there; expected none; retry the operation"
                )

        return self._walk(cursor, look)

    def export(self, folder: Folder, tenant_id: str, operation_id: str) -> bool:
        """Copies everything into the folder, with a manifest at last; False when there is more to do.

        How far it is stands in the folder itself. `manifest.json` is there when, and only when, the export is complete.
        """
        if folder.complete():
            folder.remove("progress.json")
            return True
        progress = folder.read("progress.json") or {"cursor": "", "objects": {store.name: [] for store in self._stores}}
        objects = progress["objects"]

        def copy(store: Store, page: Page, number: int) -> None:
            objects[store.name] += [made.listed() for made in store.export(page, number, folder)]

        cursor = self._walk(progress["cursor"], copy)
        if cursor:
            folder.write("progress.json", {"cursor": cursor, "objects": objects})
            return False
        manifest = {
            "format": FORMAT,
            "tenant_id": tenant_id,
            "operation_id": operation_id,
            "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "stores": {
                name: {
                    "items": sum(made["items"] for made in found),
                    "bytes": sum(made["bytes"] for made in found),
                    "objects": found,
                }
                for name, found in objects.items()
            },
        }
        folder.write("manifest.json", manifest)
        folder.remove("progress.json")
        return True

    def _walk(self, cursor: str, work: Callable[[Store, Page, int], None]) -> str:
        began, at = self._clock(), _Position.of(cursor)
        while at.store < len(self._stores):
            store = self._stores[at.store]
            page = store.page(at.start)
            work(store, page, at.number)
            at = _Position(at.store, page.after, at.number + 1) if page.after else _Position(at.store + 1)
            if self._clock() - began >= self._seconds:
                break
        return json.dumps(asdict(at)) if at.store < len(self._stores) else ""
