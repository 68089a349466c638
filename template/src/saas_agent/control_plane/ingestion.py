"""`tenants ingest`: a folder of documents into a tenant's knowledge, by an operator and with progress.

Only what is new or was changed is uploaded and indexed, so a run that was interrupted is finished by repeating it.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saas_agent.control_plane.client import AdminClient
from saas_agent.control_plane.connection import Connection
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.progress import waiting
from saas_agent.control_plane.registry import TenantRecord
from saas_agent.control_plane.states import Status
from saas_agent.storage.files import tenant_key, tenant_prefix
from saas_agent.storage.knowledge import (
    DOCUMENT_BYTES,
    DOCUMENT_SUFFIXES,
    INDEXED,
    NOT_FOUND,
    UNDER_WAY,
    KnowledgeBase,
    Library,
    State,
)
from saas_agent.tenancy.placement import load_placement

Tell = Callable[[str], None]

_BATCH = 10
_UPLOADS = 8  # at a time
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0  # between two looks at what is being indexed
# Bedrock indexes documents within minutes; without any progress for this long, nobody should go on waiting.
_PATIENCE_SECONDS = 900.0


@dataclass(frozen=True)
class Ingestion:
    """What a run came to: names of documents. failed: name -> reason. skipped: files that are no documents."""

    tenant_id: str
    indexed: list[str]
    unchanged: list[str]
    removed: list[str]
    failed: dict[str, str]
    skipped: list[str]


class Documents:
    """A tenant's documents, as an operator reaches them. Errors of AWS itself are botocore's."""

    def __init__(self, tenant_id: str, library: Library, client: Callable[[str], Any]) -> None:
        """`client`: a service's name -> a boto3 client with an operator's credentials."""
        self._tenant_id = tenant_id
        self._bucket = library.bucket
        self._s3 = client("s3")
        self._base = KnowledgeBase(tenant_id, library, client)

    def ingest(self, folder: Path, *, delete: bool, tell: Tell) -> Ingestion:
        """Brings the tenant's documents to what is in the folder and below it.

        delete: whether documents that are not in the folder are removed. tell: gets what is under way, in words.
        """
        files, skipped = _documents(folder)
        there = self._there()
        changed = [name for name, path in files.items() if there.get(name) != _digest(path)]
        self._upload({name: files[name] for name in changed}, tell)
        same = [name for name in files if name not in set(changed)]
        states = self._base.states(same)
        behind = [name for name in same if states[name].status != INDEXED]
        failed = self._index(sorted([*changed, *behind]), tell)
        removed = sorted(set(there) - set(files)) if delete else []
        self._remove(removed, tell)
        return Ingestion(
            tenant_id=self._tenant_id,
            indexed=sorted(name for name in [*changed, *behind] if name not in failed),
            unchanged=sorted(set(same) - set(behind)),
            removed=removed,
            failed=failed,
            skipped=skipped,
        )

    def _there(self) -> dict[str, str]:
        """Name -> MD5 of every document in the bucket."""
        prefix = tenant_prefix(self._tenant_id)
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        found = [item for page in pages for item in page.get("Contents", [])]
        # What is encrypted with keys of S3 and uploaded in one piece has its MD5 as ETag.
        return {item["Key"].removeprefix(prefix): item["ETag"].strip('"') for item in found}

    def _upload(self, files: Mapping[str, Path], tell: Tell) -> None:
        def put(name: str) -> None:
            key = tenant_key(self._tenant_id, name)
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=files[name].read_bytes())

        with ThreadPoolExecutor(_UPLOADS) as pool:
            for number, _ in enumerate(pool.map(put, files), 1):
                tell(f"Uploading: {number} of {len(files)}")

    def _index(self, names: Sequence[str], tell: Tell) -> dict[str, str]:
        """Has the documents indexed and waits for it; name -> reason of those that were not."""
        for batch in _batches(names):
            self._base.put(batch)
            tell(f"Submitted {batch[-1]}, of {len(names)} documents")
        ended: dict[str, State] = {}
        pause, moved = _SHORTEST_PAUSE, time.monotonic()
        while waited := [name for name in names if name not in ended]:
            before = len(ended)
            for batch in _batches(waited):
                states = self._base.states(batch)
                ended |= {name: state for name, state in states.items() if not _is_under_way(state)}
                tell(f"Indexed: {len(ended)} of {len(names)}")
            if len(ended) > before:
                pause, moved = _SHORTEST_PAUSE, time.monotonic()
            elif time.monotonic() - moved > _PATIENCE_SECONDS:
                raise ControlPlaneError(
                    f"{len(waited)} of {len(names)} documents are still being indexed, {waited[0]} among them; "
                    "expected that within minutes; repeat the command later"
                )
            if len(ended) < len(names):
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
        return {name: f"{s.status} {s.reason}".strip() for name, s in sorted(ended.items()) if s.status != INDEXED}

    def _remove(self, names: Sequence[str], tell: Tell) -> None:
        done = 0
        for batch in _batches(names):
            self._base.remove(batch)
            for name in batch:
                self._s3.delete_object(Bucket=self._bucket, Key=tenant_key(self._tenant_id, name))
            done += len(batch)
            tell(f"Removed: {done} of {len(names)}")


def documents_of(record: TenantRecord, connection: Connection) -> Documents:
    """The documents of a tenant, in its own knowledge base or in the shared one."""
    if load_placement().column(record.tier, "knowledge_base") == "shared":
        where, bucket = connection.output("KnowledgeDataSource"), connection.output("DocumentsBucket")
    else:
        try:
            where, bucket = record.resources["KnowledgeAccess"], record.resources["DocumentsBucket"]
        except KeyError as missing:
            raise ControlPlaneError(
                f"the registry names no {missing} of tenant {record.tenant_id}, which has its own; "
                "finish its onboarding with the same `tenants onboard` command"
            ) from None
    return Documents(record.tenant_id, Library.parse(where, bucket), connection.client)


def _is_under_way(state: State) -> bool:
    # What was submitted a moment ago may not be known yet.
    return state.status in UNDER_WAY or state.status == NOT_FOUND


def _documents(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The folder's documents by name, in order, and the files that are none: hidden, a link, empty, of another kind."""
    if not folder.is_dir():
        raise ControlPlaneError(f"{folder} is no folder; expected one with documents in it")
    documents: dict[str, Path] = {}
    skipped: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        if _is_document(path, name):
            documents[name] = path
        else:
            skipped.append(name)
    if not documents:
        raise ControlPlaneError(f"{folder} holds no document; expected files named {', '.join(DOCUMENT_SUFFIXES)}")
    return documents, skipped


def _is_document(path: Path, name: str) -> bool:
    if path.is_symlink() or any(part.startswith(".") for part in name.split("/")):
        return False
    try:
        tenant_key("any", name)
    except ValueError:
        return False
    return name.lower().endswith(DOCUMENT_SUFFIXES) and 0 < path.stat().st_size <= DOCUMENT_BYTES


def _digest(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), _BATCH):
        yield names[start : start + _BATCH]


# --- The command ----------------------------------------------------------------------------------


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds `ingest` to the `tenants` command. `add`: name, function and help text -> the command's parser."""
    ingest = add("ingest", _ingest, "Bring a folder of documents into a tenant's knowledge; safe to repeat.")
    ingest.add_argument("tenant_id", metavar="ID")
    ingest.add_argument("folder", metavar="FOLDER", type=Path)
    ingest.add_argument("--delete", action="store_true", help="remove documents that are not in the folder")


def _ingest(arguments: argparse.Namespace, connection: Connection) -> None:
    with waiting("Reading the registry", sys.stderr):
        record = AdminClient(connection.session, connection.api_url).show(arguments.tenant_id)
    if record.status not in (Status.ACTIVE, Status.SUSPENDED):
        raise ControlPlaneError(
            f"tenant {record.tenant_id} is {record.status}; expected ACTIVE or SUSPENDED; finish its onboarding first"
        )
    with waiting(f"Looking at {arguments.folder}", sys.stderr) as tell:
        documents = documents_of(record, connection)
        done = documents.ingest(arguments.folder, delete=arguments.delete, tell=tell)
    if arguments.output == "json":
        print(json.dumps(asdict(done), indent=2))
    else:
        _print(done)
    if done.failed:
        raise ControlPlaneError(
            f"documents that could not be indexed: {len(done.failed)}; see their reasons above, and repeat the command"
        )


def _print(done: Ingestion) -> None:
    print(
        f"Tenant {done.tenant_id}: {len(done.indexed)} documents indexed, {len(done.unchanged)} unchanged, "
        f"{len(done.removed)} removed, {len(done.failed)} failed."
    )
    for name, reason in done.failed.items():
        print(f"  failed   {name}: {reason}")
    for name in done.skipped:
        print(f"  skipped  {name}")
