"""Calls to the third party, on the wire: with the tenant's own key, and what happens with any other."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from local.authorization import DecisionLog
from local.cloud import STAGE, LocalCloud
from local.proof import tiers_to_prove
from local.stage import Actor, Stage
from saas_agent.control_plane import cli
from saas_agent.control_plane.client import AdminClient
from saas_agent.control_plane.connection import Connection
from saas_agent.control_plane.states import Status
from saas_agent.control_plane.third_party_keys import ThirdPartyKeys
from saas_agent.errors import Refused
from saas_agent.metering.record import looks_like_usage, read
from saas_agent.outbound_key import secret_name
from saas_agent.tenancy.placement import load_placement

TIERS = tiers_to_prove()


def name_of(stage: Stage, tenant_id: str) -> str:
    return secret_name(stage.outputs["Service"], stage.outputs["Stage"], tenant_id)


def key_of(stage: Stage, tenant_id: str) -> str:
    """The tenant's key, as an operator sees it."""
    found: str = stage.session.client("secretsmanager").get_secret_value(SecretId=name_of(stage, tenant_id))[
        "SecretString"
    ]
    return found


@pytest.fixture
def keys(stage: Stage) -> ThirdPartyKeys:
    return ThirdPartyKeys(stage.session.client("secretsmanager"), stage.outputs["Service"], stage.outputs["Stage"])


@pytest.fixture
def lent(stage: Stage, keys: ThirdPartyKeys) -> Iterator[Callable[[Actor, str], None]]:
    """Puts another key in the place of a tenant's; afterwards it has its own again."""
    own: dict[str, str] = {}

    def lend(actor: Actor, key: str) -> None:
        own.setdefault(actor.name, key_of(stage, actor.name))
        keys.put(actor.name, key)

    yield lend
    for tenant_id, key in own.items():
        keys.put(tenant_id, key)


@pytest.mark.parametrize("who", ["acme", "globex"])
def test_each_tenant_sees_its_own_issues_and_no_other(
    stage: Stage, decisions: DecisionLog, acme: Actor, globex: Actor, who: str
) -> None:
    actor, other = (acme, globex) if who == "acme" else (globex, acme)
    for each in (acme, globex):
        assert "Opened issue I-" in stage.ask(each, f"open an issue: Heating {each.canary}").text
    before = decisions.position()
    answer = stage.ask(actor, "list our issues")
    assert actor.canary in answer.text
    assert other.canary not in answer.text
    asked = [d for d in decisions.since(before) if d.source == "third_party"]
    assert [(d.action, d.allowed, d.context["local:Owners"]) for d in asked] == [
        ("issue-tracker:ListIssues", True, [actor.name])
    ]


def test_no_key_reaches_an_answer_a_log_a_memory_or_a_record(cloud: LocalCloud, stage: Stage, acme: Actor) -> None:
    key = key_of(stage, acme.name)
    session_id = acme.new_session_id()
    seen = stage.ask(acme, "open an issue: Door then list our issues", session_id).text
    payload = {"prompt": "list our issues", "stream": True}
    seen += stage.invoke(acme, payload, acme.tokens.access, session_id, id_token=acme.tokens.id).text
    assert "I-" in seen
    cloud.flush()
    logs = stage.session.client("logs")
    for group in logs.describe_log_groups()["logGroups"]:
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"]):
            seen += "".join(event["message"] for event in page["events"])
    memory = stage.home(acme.name).resource("memory")
    events = stage.session.client("bedrock-agentcore").list_events(
        memoryId=memory, actorId=acme.tenant.actor_id, sessionId=session_id, includePayloads=True
    )["events"]
    assert events
    seen += json.dumps(events, default=str) + str(cloud.decisions.since(0))
    seen += json.dumps([event.detail for event in cloud.buses.events(stage.outputs["EventBus"])], default=str)
    assert key not in seen


def test_a_tenant_that_is_not_connected_is_told_so_and_raises_no_alarm(
    stage: Stage, keys: ThirdPartyKeys, lent: Callable[[Actor, str], None], acme: Actor
) -> None:
    lent(acme, key_of(stage, acme.name))
    assert keys.remove(acme.name)
    assert not keys.remove(acme.name)
    with pytest.raises(Refused) as caught:
        stage.doors(acme).issues.list()
    assert caught.value.reason.code == "not_connected"
    answer = stage.ask(acme, "list our issues")
    assert answer.status == 200
    assert "not connected" in answer.text


@pytest.mark.parametrize("tags", [{}, {"TenantId": "globex"}, {"TenantId": "acme2"}])
def test_a_key_that_is_not_tagged_with_its_tenant_is_nobodys(
    stage: Stage, lent: Callable[[Actor, str], None], acme: Actor, tags: dict[str, str]
) -> None:
    lent(acme, key_of(stage, acme.name))
    client, name = stage.session.client("secretsmanager"), name_of(stage, acme.name)
    client.untag_resource(SecretId=name, TagKeys=["TenantId"])
    client.tag_resource(SecretId=name, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    with pytest.raises(Refused) as caught:
        stage.doors(acme).issues.list()
    assert caught.value.reason.code == "denied"


def test_another_tenants_key_in_the_own_secret_opens_neither_workspace(
    stage: Stage, decisions: DecisionLog, lent: Callable[[Actor, str], None], acme: Actor, globex: Actor
) -> None:
    """The call names the tenant's own workspace: a key that was mixed up shows nobody's issues to anybody."""
    stage.doors(globex).issues.open(globex.canary)
    lent(acme, key_of(stage, globex.name))
    before = decisions.position()
    answer = stage.ask(acme, "list our issues")
    assert globex.canary not in answer.text
    [asked] = [d for d in decisions.since(before) if d.source == "third_party"]
    assert (asked.allowed, asked.context["local:Owners"]) == (False, [acme.name])


def test_tool_calls_are_metered_for_the_tenant_whether_they_work_or_fail(
    cloud: LocalCloud, stage: Stage, lent: Callable[[Actor, str], None], globex: Actor
) -> None:
    stage.ask(globex, "list our issues")
    lent(globex, "itk_forged")
    stage.ask(globex, "list our issues")
    cloud.flush()
    pages = stage.session.client("logs").get_paginator("filter_log_events")
    lines = [
        event["message"]
        for page in pages.paginate(logGroupName=stage.home(globex.name).log_group)
        for event in page["events"]
    ]
    records = [read(line) for line in lines if looks_like_usage(line)]
    calls = [r for r in records if r.tenant_id == globex.name and r.kind == "tool_call" and r.name == "list_issues"]
    assert [call.outcome for call in calls[-2:]] == ["ok", "error"]
    assert {call.feature for call in calls} == {"conversation"}
    assert {call.tier for call in calls} == {globex.tenant.tier}
    assert all(call.latency_ms > 0 for call in calls)


def test_what_goes_wrong_at_the_third_party_quotes_no_key(
    stage: Stage, lent: Callable[[Actor, str], None], acme: Actor, caplog: pytest.LogCaptureFixture
) -> None:
    lent(acme, "itk_forged-and-secret")
    with caplog.at_level(logging.DEBUG, logger="saas_agent"), pytest.raises(Refused) as caught:
        stage.doors(acme).issues.list()
    assert caught.value.reason.code == "denied"
    told = caplog.text + str(caught.value) + caught.value.detail + repr(stage.doors(acme))
    assert "status=403" in told
    assert "itk_forged" not in told


def test_a_tenant_that_leaves_takes_its_key_along_and_exports_none(stage: Stage, cloud: LocalCloud) -> None:
    leaver, twin = stage.onboard("key-leaver", TIERS[0]), stage.onboard("key-leaver2", TIERS[0])
    key, kept = key_of(stage, leaver.name), key_of(stage, twin.name)
    change = stage.tenants.offboard(leaver.name, export=True)
    assert change.operation is not None
    s3, bucket = cloud.operator_session().client("s3"), stage.outputs["ExportsBucket"]
    exported = s3.list_objects_v2(Bucket=bucket, Prefix=f"tenants/{leaver.name}/")["Contents"]
    assert exported
    for entry in exported:
        assert key.encode() not in s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
    secrets = stage.session.client("secretsmanager").list_secrets(IncludePlannedDeletion=True)["SecretList"]
    assert name_of(stage, leaver.name) not in {secret["Name"] for secret in secrets}
    assert key_of(stage, twin.name) == kept


@pytest.fixture
def run(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command with a text on its standard input: exit status, what it printed, its last line of errors."""
    connection = Connection(cloud.operator_session(), load_placement().service, STAGE, cloud.endpoint)
    monkeypatch.setattr(cli, "_connect", lambda _: connection)

    def run(*arguments: str, typed: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        status = cli.main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, (captured.err.splitlines() or [""])[-1]

    return run


def test_an_operator_connects_a_tenant_and_takes_it_back(
    stage: Stage, run: Callable[..., tuple[int, str, str]]
) -> None:
    stage.tenants.onboard("connected", tier=TIERS[0], admin="admin@connected.example", invite=False)
    for key in ("first-key", "second-key"):
        done = (0, "Tenant connected is connected: its key at the third party is kept.\n")
        assert run("connect", "connected", typed=f"{key}\n")[:2] == done
        assert key_of(stage, "connected") == key
    tags = stage.session.client("secretsmanager").describe_secret(SecretId=name_of(stage, "connected"))["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags}["TenantId"] == "connected"
    assert run("connect", "connected", "--remove")[1] == "Tenant connected has no key at the third party any more.\n"
    assert "nothing was changed" in run("connect", "connected", "--remove")[1]
    assert json.loads(run("connect", "connected", "--remove", "--output", "json")[1])["changed"] is False


@pytest.mark.parametrize("typed", ["", "\n", "two words\n", "k\u00e9y\n", "k" * 4097])
def test_what_is_no_key_is_refused_in_a_line(
    stage: Stage, run: Callable[..., tuple[int, str, str]], acme: Actor, typed: str
) -> None:
    before = key_of(stage, acme.name)
    status, out, error = run("connect", acme.name, typed=typed)
    assert (status, out) == (1, "")
    assert error.startswith("tenants: that is no key; expected 1 to 4096 visible ASCII characters")
    assert key_of(stage, acme.name) == before


def test_a_tenant_that_there_is_not_is_not_connected(run: Callable[..., tuple[int, str, str]]) -> None:
    status, _, error = run("connect", "nobody-at-all", typed="key\n")
    assert status == 1
    assert "nobody-at-all" in error


@pytest.mark.parametrize("status", [Status.PROVISIONING, Status.OFFBOARDING, Status.DELETED])
def test_a_tenant_that_comes_or_goes_is_not_connected(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, stage: Stage, acme: Actor, status: Status
) -> None:
    """What offboarding looked for last would be there again."""
    record, before = stage.tenants.show(acme.name), key_of(stage, acme.name)
    monkeypatch.setattr(AdminClient, "show", lambda *_: replace(record, status=status))
    code, out, error = run("connect", acme.name, typed="another-key\n")
    assert (code, out) == (1, "")
    assert error.startswith(f"tenants: tenant {acme.name} is {status}; expected ACTIVE or SUSPENDED")
    assert key_of(stage, acme.name) == before
