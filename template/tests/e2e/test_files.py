"""The files' door, with a tenant's own credentials on the local cloud."""

from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3

from local.stage import Actor, Stage
from saas_agent.errors import Refused
from saas_agent.storage.files import Files
from saas_agent.tenancy.access import TenantAccess
from saas_agent.tenancy.placement import load_placement
from saas_agent.tenancy.tenant import TenantContext


@pytest.fixture
def files(stage: Stage, acme: Actor) -> Files:
    """acme's own files."""
    return stage.doors(acme).files


def test_what_was_put_is_read_back(files: Files) -> None:
    files.put("a/b.txt", b"hello", content_type="text/plain")
    assert files.get("a/b.txt") == b"hello"
    assert files.get("a/missing.txt") is None
    files.delete("a/b.txt")
    files.delete("a/b.txt")
    assert files.get("a/b.txt") is None


def test_a_list_is_bounded_by_its_folder_and_goes_over_pages(files: Files) -> None:
    for name in ("list/a", "list/b/c", "listed"):
        files.put(name, b"")
    assert files.list("list") == ["list/a", "list/b/c"]
    assert {"list/a", "list/b/c", "listed"} <= set(files.list())


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a/", "a//b", ".", "..", "../globex/x", "a/../../globex/x", "a/./b", "a\\b", "a\nb", "a\0b", "a" * 513],
)
def test_a_name_can_not_leave_the_prefix(files: Files, name: str) -> None:
    for call in (
        lambda: files.put(name, b""),
        lambda: files.get(name),
        lambda: files.delete(name),
        lambda: files.download_link(name),
        lambda: files.upload_link(name),
    ):
        with pytest.raises(ValueError, match="file name"):
            call()


def test_links_work_for_their_one_file_and_way(files: Files) -> None:
    link = files.upload_link("linked.txt")
    assert urllib3.request("PUT", link, body=b"through a link").status == 200
    download = files.download_link("linked.txt")
    assert urllib3.request("GET", download).data == b"through a link"
    assert urllib3.request("PUT", download, body=b"x").status == 403
    assert urllib3.request("GET", download.replace("linked.txt", "other.txt")).status == 403
    assert files.get("linked.txt") == b"through a link"


def test_a_link_is_good_for_minutes(files: Files) -> None:
    for link in (files.download_link("linked.txt"), files.upload_link("linked.txt")):
        [seconds] = parse_qs(urlsplit(link).query)["X-Amz-Expires"]
        assert 0 < int(seconds) <= 300


def test_a_door_of_another_tenant_over_own_credentials_is_refused(stage: Stage, acme: Actor, globex: Actor) -> None:
    # No code makes such a thing; if it did, IAM would have the last word.
    torn = TenantAccess(TenantContext("globex", "basic", "x", acme.tenant.expires_at), stage.access(acme).session)
    files = Files(torn, stage.home(acme.name).resource("s3"))
    for call in (lambda: files.put("x", b""), lambda: files.get("x"), lambda: files.list(), lambda: files.delete("x")):
        with pytest.raises(Refused) as caught:
            call()
        assert caught.value.reason.code == "denied"


def test_a_tenant_that_leaves_leaves_no_name_of_a_deleted_file_either(stage: Stage) -> None:
    actor = stage.onboard("eraser", load_placement().tiers[0])
    files, bucket = stage.doors(actor).files, stage.home(actor.name).resource("s3")
    files.put("secret-name.txt", b"hello")
    files.delete("secret-name.txt")
    s3 = stage.session.client("s3")
    assert s3.list_object_versions(Bucket=bucket, Prefix="tenants/eraser/")["DeleteMarkers"]
    stage.tenants.offboard(actor.name)
    try:
        left = s3.list_object_versions(Bucket=bucket, Prefix="tenants/eraser/")
    except s3.exceptions.NoSuchBucket:
        return  # it was the tenant's own
    assert not left.get("Versions") and not left.get("DeleteMarkers")
