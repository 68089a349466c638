"""A tenant's data for the workflow: page after page, as far as the time goes, and whole when it says so."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from saas_agent.control_plane.data import Data, Exported, Exports, Folder, Page, Store
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.steps import walk

BUCKET = "exports"


@pytest.fixture(scope="module")
def client() -> Any:
    """Made once: making a client takes longer than most of these tests."""
    return boto3.Session("test", "test", region_name="us-east-1").client("s3")


@pytest.fixture
def s3(client: Any) -> Iterator[Any]:
    with mock_aws():
        client.create_bucket(Bucket=BUCKET)
        yield client


class Shelf(Store):
    """A store of texts, two to a page."""

    def __init__(self, name: str, *texts: str) -> None:
        self.name = name
        self.texts = list(texts)
        self.stubborn = False

    def page(self, start: str) -> Page:
        found = [text for text in self.texts if text > start][:2]
        return Page(found, found[-1] if found and found[-1] != self.texts[-1] else "")

    def export(self, page: Page, number: int, folder: Folder) -> list[Exported]:
        return folder.write_lines(f"{self.name}/{number:06}.jsonl", [{"text": text} for text in page.items])

    def delete(self, page: Page) -> None:
        if not self.stubborn:
            self.texts = [text for text in self.texts if text not in page.items]

    def left(self, page: Page) -> int:
        return len(page.items)


def shelves() -> list[Shelf]:
    return [Shelf("empty"), Shelf("books", *"abcde"), Shelf("maps", *"xyz")]


def times(*seconds: float) -> Any:
    """A clock that shows these one after the other, and then the last for good."""
    left = list(seconds)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def whole(step: Any) -> int:
    """Calls a step until it is done; how often."""
    cursor, calls = "", 0
    while True:
        cursor, calls = step(cursor), calls + 1
        if not cursor:
            return calls


@pytest.mark.parametrize(("seconds", "calls"), [(60.0, 1), (0.0, 6)])
def test_everything_is_deleted_however_little_time_a_call_has(seconds: float, calls: int) -> None:
    stores = shelves()
    assert whole(Data(stores, seconds).delete) == calls
    assert [store.texts for store in stores] == [[], [], []]
    assert whole(Data(stores, seconds).check) == (1 if seconds else 3)


@pytest.mark.parametrize("seconds", [60.0, 0.0])
def test_whatever_is_left_is_found(seconds: float) -> None:
    stores = shelves()
    stores[2].stubborn = True
    whole(Data(stores, seconds).delete)
    with pytest.raises(ControlPlaneError, match="2 or more of the tenant's maps are still there"):
        whole(Data(stores, seconds).check)


def test_deleting_again_from_the_start_finds_nothing_to_do() -> None:
    stores = shelves()
    cursor = Data(stores, 0.0).delete("")
    cursor = Data(stores, 0.0).delete(cursor)
    assert cursor
    assert whole(Data(stores, 60.0).delete) == 1
    assert not any(store.texts for store in stores)


def export(s3: Any, stores: list[Shelf], seconds: float) -> bool:
    return Data(stores, seconds).export(Folder(s3, BUCKET, "acme", "op-1"), "acme", "op-1")


def exported(s3: Any) -> dict[str, bytes]:
    return {
        entry["Key"]: s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
        for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    }


@pytest.mark.parametrize("seconds", [60.0, 0.0])
def test_an_export_is_whole_when_and_only_when_its_manifest_is_there(s3: Any, seconds: float) -> None:
    done = False
    while not done:
        assert "tenants/acme/op-1/manifest.json" not in exported(s3)
        done = export(s3, shelves(), seconds)
    objects = exported(s3)
    manifest = json.loads(objects.pop("tenants/acme/op-1/manifest.json"))
    assert {name: store["items"] for name, store in manifest["stores"].items()} == {"empty": 0, "books": 5, "maps": 3}
    listed = [entry for store in manifest["stores"].values() for entry in store["objects"]]
    assert {f"tenants/acme/op-1/{entry['key']}" for entry in listed} == set(objects)
    for entry in listed:
        content = objects[f"tenants/acme/op-1/{entry['key']}"]
        assert (entry["sha256"], entry["bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
        assert entry["items"] == len(content.splitlines())
    texts = [json.loads(line)["text"] for content in objects.values() for line in content.splitlines()]
    assert sorted(texts) == list("abcdexyz")


def test_an_export_that_was_cut_short_copies_nothing_twice(s3: Any) -> None:
    assert not export(s3, shelves(), 0.0)
    assert not export(s3, shelves(), 0.0)
    before = exported(s3)
    # As if the last call had died before it could say how far it got.
    s3.put_object(
        Bucket=BUCKET,
        Key="tenants/acme/op-1/progress.json",
        Body=json.dumps({"cursor": "", "objects": {"empty": [], "books": [], "maps": []}}),
    )
    while not export(s3, shelves(), 0.0):
        pass
    after = exported(s3)
    assert set(before) - {"tenants/acme/op-1/progress.json"} <= set(after)
    manifest = json.loads(after["tenants/acme/op-1/manifest.json"])
    keys = [entry["key"] for store in manifest["stores"].values() for entry in store["objects"]]
    assert len(keys) == len(set(keys)) == 5


def test_an_export_that_is_whole_is_not_made_again(s3: Any) -> None:
    export(s3, shelves(), 60.0)
    before = exported(s3)
    assert export(s3, [Shelf("other", "q")], 60.0)
    assert exported(s3) == before


def test_an_object_whose_name_begins_alike_is_another(s3: Any) -> None:
    folder = Folder(s3, BUCKET, "acme", "op-1")
    s3.put_object(Bucket=BUCKET, Key="tenants/acme/op-1/manifest.json.old", Body=b'{"format": 1}')
    assert folder.read("manifest.json") is None
    assert not folder.complete()
    folder.write("manifest.json", {"format": 2})
    assert folder.read("manifest.json") == {"format": 2}


@pytest.mark.parametrize(("keep", "left"), [(None, set()), ("op-2", {"tenants/acme/op-2/x"})])
def test_exports_of_before_go_and_the_one_that_was_asked_for_stays(s3: Any, keep: str | None, left: set[str]) -> None:
    others = {"tenants/acme2/op-1/x", "tenants/globex/op-2/x"}
    for key in ("tenants/acme/op-1/x", "tenants/acme/op-2/x", "tenants/acme/op-1/y", *others):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    whole(Data([Exports(s3, BUCKET, "acme", keep)], 60.0).delete)
    assert set(exported(s3)) == left | others
    assert whole(Data([Exports(s3, BUCKET, "acme", keep)], 60.0).check) == 1


def test_what_json_has_no_form_for_is_not_exported_as_something_else(s3: Any) -> None:
    folder = Folder(s3, BUCKET, "acme", "op-1")
    assert folder.write_lines("none.jsonl", []) == []
    folder.write_lines("bytes.jsonl", [{"B": b"\x00\xff"}])
    assert exported(s3)["tenants/acme/op-1/bytes.jsonl"] == b'{"B": "AP8="}\n'
    with pytest.raises(TypeError, match="can't hold a set"):
        folder.write_lines("set.jsonl", [{"S": {1}}])


def test_a_walk_ends_with_its_time_and_goes_on_where_it_was() -> None:
    pages = {"": ([1], "b"), "b": ([2], "c"), "c": ([3], "")}
    worked: list[list[int]] = []
    cursor = walk("", pages.__getitem__, worked.append, 10.0, times(0, 5, 10))
    assert (cursor, worked) == ("c", [[1], [2]])
    assert walk(cursor, pages.__getitem__, worked.append, 10.0, times(0)) == ""
    assert worked == [[1], [2], [3]]
