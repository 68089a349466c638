"""Every attack, judged from the decisions that the local cloud recorded, and the live check that asks AWS the same."""

from dataclasses import fields, replace
from importlib.util import find_spec

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto.bedrockagentcorecontrol.models import bedrockagentcorecontrol_backends
from urllib3 import HTTPConnectionPool
from urllib3.exceptions import MaxRetryError

from local import live_check, proof
from local.attacks.attack import Arena, Attack, Kind, all_attacks, modules
from local.attacks.judgement import EVERYBODY, Verdict, judge, judge_answer, owners
from local.authorization import Decision, DecisionLog
from local.cloud import ACCOUNT, LocalCloud
from local.live_check import check, main
from local.proof import attempt, left_out, plant, run_attacks, tiers_to_prove, walk, worked
from local.stage import Actor, Answer, Stage
from saas_agent.control_plane.connection import Connection
from saas_agent.control_plane.states import Status
from saas_agent.errors import DENIED, INTERNAL, Refused
from saas_agent.tenancy.placement import load_placement
from saas_agent.wiring import Doors

# What a third party is called with, and the door that does.
OUTBOUND = {"keys": "issues", "tokens": "reported_issues"}

# Fewer attacks than this and something was lost on the way: the smallest variant has 40 and more.
_FEWEST = 40


def test_every_attack_is_stopped(
    stage: Stage, decisions: DecisionLog, acme: Actor, acme2: Actor, globex: Actor
) -> None:
    plant(stage, [acme, acme2, globex])
    outcomes = list(run_attacks(stage, acme, [acme2, globex], decisions))
    assert len(outcomes) >= _FEWEST
    unsafe = [o for o in outcomes if not o.verdict.safe]
    assert [f"{o.attack.id} on {o.victim}: {o.verdict.value}: {o.judgement.why}" for o in unsafe] == []
    # Talking the model into it isn't refused, so what tells it apart is that own data was touched and no other.
    assert {o.verdict for o in outcomes if o.attack.kind == "access"} == {Verdict.DENIED}


def test_a_tenant_of_another_tier_can_do_no_more(
    stage: Stage, decisions: DecisionLog, acme: Actor, globex: Actor
) -> None:
    plant(stage, [acme])
    outcomes = list(run_attacks(stage, globex, [acme], decisions))
    assert len(outcomes) >= _FEWEST // 2
    unsafe = [o for o in outcomes if not o.verdict.safe]
    assert [f"{o.attack.id} on {o.victim}: {o.verdict.value}: {o.judgement.why}" for o in unsafe] == []


def test_a_runtime_without_its_own_policy_is_noticed(
    stage: Stage, decisions: DecisionLog, acme: Actor, acme2: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authorizer lets everybody with a token through: to a shell in the runtime as well."""
    for runtime in bedrockagentcorecontrol_backends[ACCOUNT][stage.region].agent_runtimes.values():
        monkeypatch.setattr(runtime, "resource_policy", None)
    opened = {f"request.{name}" for name in ("command", "shell", "stream", "end_session")}
    some = [attack for attack in all_attacks() if attack.id in opened]
    monkeypatch.setattr(proof, "all_attacks", lambda: some)
    verdicts = {outcome.attack.id: outcome.verdict for outcome in run_attacks(stage, acme, [acme2], decisions)}
    assert verdicts.keys() == opened
    assert not any(verdict.safe for verdict in verdicts.values())
    assert verdicts["request.command"] is verdicts["request.shell"] is Verdict.LEAKED


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, Verdict.LEAKED), (403, Verdict.DENIED), (400, Verdict.UNPROVEN), (404, Verdict.UNPROVEN)],
)
def test_only_a_denial_shows_on_aws_that_nobody_gets_into_a_runtime(
    stage: Stage, acme: Actor, acme2: Actor, monkeypatch: pytest.MonkeyPatch, status: int, verdict: Verdict
) -> None:
    monkeypatch.setattr(Stage, "invoke", lambda *_, **__: Answer(status, "", 0.0))
    [command] = [attack for attack in all_attacks() if attack.id == "request.command"]
    came_back, refused = attempt(command, Arena(stage, acme, acme2, None))
    assert judge_answer(command.kind, came_back, refused, []).verdict is verdict


def test_there_are_attacks_on_every_component(stage: Stage) -> None:
    areas = {attack.area for attack in all_attacks()}
    placement = load_placement()
    expected = {"request", "identity", "sts", "registry"} | (set(placement.components) - {"runtime", "outbound"})
    doors = {field.name for field in fields(Doors)}
    expected |= {f"outbound_{kind}" for kind, door in OUTBOUND.items() if door in doors}
    assert any(area.startswith("outbound") for area in areas) == ("outbound" in placement.components)
    if "CredentialsFunction" in stage.outputs:
        expected.add("vending")
    if "gateway" in expected:
        expected.add("gateway_api")
    if "gateway" in expected and find_spec("saas_agent.tenancy.web_identity"):
        expected.add("gateway_id_token")
    if any(placement.has_own(tier) for tier in placement.tiers):
        expected.add("dedicated")
    if "HubDomain" in stage.outputs:
        expected.add("federation")
    assert areas == expected == {module.__name__.rpartition(".")[2] for module in modules()}


@pytest.mark.parametrize("attack", all_attacks(), ids=lambda attack: attack.id)
def test_an_attack_has_a_title_of_its_own(attack: Attack) -> None:
    same = [other for other in all_attacks() if (other.area, other.title) == (attack.area, attack.title)]
    assert same == [attack]


def _decision(action: str, resource: str, allowed: bool, **context: str | list[str]) -> Decision:
    named = {key.replace("__", ":").replace("___", "-"): value for key, value in context.items()}
    return Decision(1, "arn", "acme", action, resource, named, allowed, "identity", "because")


def _client_error(code: str, status: int) -> ClientError:
    answer = {"Error": {"Code": code, "Message": "x"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Call")


def _nobodys(_: str) -> str | None:
    return None


TABLE = "arn:aws:dynamodb:us-east-1:123456789012:table/t"


@pytest.mark.parametrize(
    ("decision", "verdict"),
    [
        (_decision("dynamodb:GetItem", TABLE, True, dynamodb__LeadingKeys=["TENANT#globex"]), Verdict.LEAKED),
        (_decision("dynamodb:GetItem", TABLE, True, dynamodb__LeadingKeys=["TENANT#acme2"]), Verdict.LEAKED),
        (
            _decision("dynamodb:BatchGetItem", TABLE, True, dynamodb__LeadingKeys=["TENANT#acme", "TENANT#globex"]),
            Verdict.LEAKED,
        ),
        (_decision("dynamodb:Scan", TABLE, True), Verdict.LEAKED),
        (_decision("s3:GetObject", "arn:aws:s3:::b/tenants/globex/x", True), Verdict.LEAKED),
        (_decision("s3:ListBucket", "arn:aws:s3:::b", True), Verdict.LEAKED),
        (_decision("s3:ListBucket", "arn:aws:s3:::b", True, s3__prefix="tenants/acme"), Verdict.LEAKED),
        (_decision("dynamodb:GetItem", TABLE, True, dynamodb__LeadingKeys=["TENANT#acme"]), Verdict.UNPROVEN),
        (_decision("dynamodb:GetItem", TABLE, False, dynamodb__LeadingKeys=["TENANT#globex"]), Verdict.DENIED),
    ],
)
def test_a_leak_is_seen_in_the_decisions(decision: Decision, verdict: Verdict) -> None:
    assert judge("access", "acme", [decision], "", [], "registry", _nobodys, "dynamodb").verdict is verdict


def test_a_leak_is_seen_in_the_answer_even_where_every_decision_was_a_denial() -> None:
    denied = _decision("dynamodb:GetItem", TABLE, False, dynamodb__LeadingKeys=["TENANT#globex"])
    judgement = judge("access", "acme", [denied], "... canary-1 ...", ["canary-1"], "registry", _nobodys, "dynamodb")
    assert judgement.verdict is Verdict.LEAKED


def test_an_attack_on_which_nothing_was_decided_is_no_success() -> None:
    assert not judge("access", "acme", [], "", [], "registry", _nobodys, "request").verdict.safe
    assert not judge("persuasion", "acme", [], "", [], "registry", _nobodys, "request").verdict.safe


MEMORY = "arn:aws:bedrock-agentcore:us-east-1:123456789012:memory/m"
RUNTIME = "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/r"


def test_talking_the_model_into_it_is_confined_only_where_it_touched_what_it_was_after() -> None:
    # Every request does these two, whatever it is asked for.
    looked_up = _decision("dynamodb:GetItem", TABLE + "-tenants", True, dynamodb__LeadingKeys=["TENANT#acme"])
    remembered = replace(
        _decision("bedrock-agentcore:CreateEvent", MEMORY, True),
        context={"bedrock-agentcore:actorId": "acme:someone"},
    )
    listed = _decision("dynamodb:Query", TABLE, True, dynamodb__LeadingKeys=["TENANT#acme"])
    read = _decision("s3:GetObject", "arn:aws:s3:::b/tenants/acme/x", True)

    def verdict(area: str, *made: Decision) -> Verdict:
        return judge("persuasion", "acme", made, "", [], "t-tenants", _nobodys, area).verdict

    for area in ("dynamodb", "s3", "orders"):
        assert verdict(area, looked_up, remembered) is Verdict.UNPROVEN
    assert verdict("dynamodb", looked_up, remembered, listed) is Verdict.CONFINED
    assert verdict("dynamodb", looked_up, remembered, read) is Verdict.UNPROVEN
    assert verdict("s3", looked_up, remembered, read) is Verdict.CONFINED
    assert verdict("orders", looked_up, remembered, read) is Verdict.CONFINED
    assert verdict("request", looked_up, remembered) is Verdict.CONFINED
    assert verdict("request", looked_up) is Verdict.UNPROVEN


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [("limit_reached", Verdict.UNPROVEN), ("token_expired", Verdict.UNPROVEN), ("denied", Verdict.DENIED)],
)
def test_a_request_that_is_turned_away_as_such_proves_nothing(reason: str, verdict: Verdict) -> None:
    turned_away = _decision("bedrock-agentcore:InvokeAgentRuntime", RUNTIME, False)
    made = [replace(turned_away, source="agent", reason=reason)]
    assert judge("persuasion", "acme", made, "", [], "registry", _nobodys, "dynamodb").verdict is verdict


@pytest.mark.parametrize(
    ("kind", "failed", "refused"),
    [
        ("access", Answer(401, "", 0.0), True),
        ("access", Answer(403, "", 0.0), True),
        ("access", Answer(429, "", 0.0), None),
        ("access", Answer(429, {"error": {"code": "limit_reached"}}, 0.0), True),
        ("persuasion", Answer(429, {"error": {"code": "limit_reached"}}, 0.0), None),
        ("access", Answer(500, "", 0.0), None),
        ("access", Answer(503, "", 0.0), None),
        ("access", Answer(200, "", 0.0), False),
        ("persuasion", Answer(401, "", 0.0), None),
        ("access", _client_error("AccessDeniedException", 400), True),
        ("access", _client_error("ThrottlingException", 400), None),
        ("access", _client_error("InternalServerError", 500), None),
        ("access", _client_error("ResourceNotFoundException", 404), False),
        ("access", EndpointConnectionError(endpoint_url="https://example.com"), None),
        ("access", MaxRetryError(HTTPConnectionPool("example.com"), "/"), None),
        ("access", Refused(INTERNAL), None),
        ("access", Refused(DENIED), True),
    ],
)
def test_what_fails_on_aws_for_another_reason_proves_nothing(
    stage: Stage, acme: Actor, acme2: Actor, kind: Kind, failed: Answer | Exception, refused: bool | None
) -> None:
    def run(_: Arena) -> object:
        if isinstance(failed, Exception):
            raise failed
        return failed

    tried = Attack("request", "x", run, kind, each_victim=False, local=False, when=lambda _: True, tool=None)
    came_back, found = attempt(tried, Arena(stage, acme, acme2, None))
    assert found is refused
    expected = {None: Verdict.UNPROVEN, True: Verdict.DENIED, False: Verdict.LEAKED}[refused]
    assert judge_answer(kind, came_back, found, []).verdict is expected


def test_what_needs_a_tool_that_the_agent_lacks_is_left_out_and_said(
    stage: Stage, decisions: DecisionLog, acme: Actor, acme2: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = {attack.tool for attack in all_attacks() if attack.tool is not None}
    own = frozenset({"remember_preference"})
    monkeypatch.setattr(Stage, "tools", lambda *_: own)
    assert len(left_out(stage, acme)) == len(needed)
    plant(stage, [acme, acme2])
    # Some of those that need none will do.
    some = [attack for number, attack in enumerate(all_attacks()) if attack.tool is not None or number % 8 == 0]
    monkeypatch.setattr(proof, "all_attacks", lambda: some)
    ran = {outcome.attack.tool for outcome in run_attacks(stage, acme, [acme2], decisions)}
    assert ran == {None}
    accesses = list(walk(stage, acme))
    assert worked(accesses)
    titles = {access.title for access in accesses if access.ok is None}
    assert titles <= {
        "opens a ticket",
        "lists its tickets",
        "stores an attachment",
        "reads it back",
        "finds an answer in its documents",
        "opens an issue at a third party",
        "lists its issues there",
        "reports an issue by OAuth",
        "lists what was reported",
    }
    assert bool(titles) == bool({"dynamodb", "s3", "knowledge_base", "outbound"} & set(load_placement().components))


def test_only_the_platform_itself_may_read_the_registry_for_another() -> None:
    entry = replace(_decision("dynamodb:GetItem", TABLE, True, dynamodb__LeadingKeys=["TENANT#globex"]), tenant=None)
    denied = _decision("dynamodb:GetItem", TABLE, False)

    def verdict(registry: str, *made: Decision) -> Verdict:
        return judge("access", "acme", made, "", [], registry, _nobodys, "registry").verdict

    assert verdict("t", entry, denied) is Verdict.DENIED
    assert verdict("another", entry, denied) is Verdict.LEAKED
    assert verdict("t", replace(entry, tenant="acme")) is Verdict.LEAKED


def test_an_unknown_call_on_memory_counts_as_one_on_everybodys() -> None:
    assert owners(_decision("bedrock-agentcore:ListActors", MEMORY, True)) == {EVERYBODY}


def test_the_live_check_passes_and_can_be_repeated(
    cloud: LocalCloud, stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As on AWS, where nobody mints tokens or sees a runtime's own credentials.
    as_on_aws = Stage(stage.session, stage.outputs, cloud.endpoint, fetch_keys=cloud.keys)
    told = ""
    for attacks in (all_attacks(), all_attacks()[::8]):
        monkeypatch.setattr(proof, "all_attacks", lambda attacks=attacks: attacks)
        assert check(as_on_aws) == 0, capsys.readouterr().out
        printed = capsys.readouterr().out
        assert ", 0 leaked, 0 unproven" in printed
        told += printed
        assert "Does the token fit into a header of 4 KB?" in printed
        assert "no exchange works" not in printed
        assert stage.tenants.show("live-check").status is Status.SUSPENDED
    own_runtime = load_placement().column(tiers_to_prove()[0], "runtime") == "dedicated"
    assert ("never leave it: left out " in told) == own_runtime


def test_the_command_reaches_the_local_cloud_and_nothing_else(
    cloud: LocalCloud, stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = stage.outputs["Service"]
    running = Connection(cloud.operator_session(), service, "local", cloud.endpoint)
    monkeypatch.setattr(live_check, "connect_local", lambda _: running)
    # As in a shell of one's own: nothing points to the local cloud yet.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setattr(live_check, "check", lambda found: len(list(found.tenants.all())) and 0)
    assert main(["--local"]) == 0, capsys.readouterr().err
