"""The agent's process: what it starts with, and what it never prints, logs or lets out."""

import json
import logging
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from botocore.exceptions import ClientError, EndpointConnectionError

from local.agent_server import AgentServer
from local.cloud import LocalCloud
from local.stage import SESSION_HEADER, Actor, Stage
from saas_agent import main, wiring
from saas_agent.errors import DENIED, ConfigurationError, Refused
from saas_agent.memory import OwnActorSessionManager
from saas_agent.settings import Settings
from saas_agent.tenancy.placement import load_placement
from saas_agent.tenancy.tiers import load_tiers
from saas_agent.tenancy.token import ID_TOKEN_HEADER, VerifiedToken

# The deployment may leave these out.
OPTIONAL = {"GUARDRAIL_ID", "GUARDRAIL_VERSION"}


@pytest.fixture
def environ(stage: Stage, acme: Actor) -> dict[str, str]:
    """The environment of the runtime that serves acme, as deployed."""
    return deployed(stage, acme.name)


def deployed(stage: Stage, tenant_id: str) -> dict[str, str]:
    """The environment of the runtime that serves a tenant."""
    runtime_id = stage.home(tenant_id).runtime_arn.rpartition("/")[2]
    runtime = stage.session.client("bedrock-agentcore-control").get_agent_runtime(agentRuntimeId=runtime_id)
    return {"AWS_REGION": stage.region, **runtime["environmentVariables"]}


# What it starts with.


def _start(environ: Mapping[str, str], stage: Stage, cloud: LocalCloud) -> None:
    main.create_app(Settings.from_environ(environ), session=stage.session, fetch_keys=cloud.keys, write=lambda _: None)


def test_it_does_not_start_without_anything_that_it_was_deployed_with(
    environ: dict[str, str], stage: Stage, cloud: LocalCloud
) -> None:
    _start(environ, stage, cloud)
    for name in sorted(set(environ) - OPTIONAL):
        for missing in ({key: value for key, value in environ.items() if key != name}, {**environ, name: ""}):
            with pytest.raises(ConfigurationError, match=r"^[^\n]+$"):
                _start(missing, stage, cloud)
                pytest.fail(f"it starts without {name}; if it may, add it to OPTIONAL")


def test_a_guardrail_that_is_deployed_gets_to_every_runtime(
    environ: dict[str, str], stage: Stage, cloud: LocalCloud
) -> None:
    assert Settings.from_environ(environ).guardrail_id is None
    cloud.deploy({"GuardrailId": "guard", "GuardrailVersion": "7"})
    try:
        for tier in load_tiers():
            stage.onboard(f"guarded-{tier}", tier)
            settings = Settings.from_environ(deployed(stage, f"guarded-{tier}"))
            assert (settings.guardrail_id, settings.guardrail_version) == ("guard", "7"), tier
    finally:
        cloud.deploy({"GuardrailId": "", "GuardrailVersion": "DRAFT"})
    assert OPTIONAL.isdisjoint(deployed(stage, f"guarded-{tier}")) or load_placement().has_own(tier)
    for tier in load_tiers():  # an account has few clients of third parties, and all tests share it
        stage.tenants.offboard(f"guarded-{tier}")


def test_it_does_not_start_for_tenants_that_it_does_not_serve(
    environ: dict[str, str], stage: Stage, cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saas_agent.tenancy.placement.Placement.serves", lambda *_: False)
    with pytest.raises(ConfigurationError, match="no tier whose tenants"):
        _start(environ, stage, cloud)


def test_it_does_not_start_for_a_tier_that_is_placed_nowhere(
    environ: dict[str, str], stage: Stage, cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiers = load_tiers()
    monkeypatch.setattr(wiring, "load_tiers", lambda: {**tiers, "gold": tiers["premium"]})
    with pytest.raises(ConfigurationError, match="'gold'"):
        _start(environ, stage, cloud)


@pytest.mark.parametrize("value", ["both", "ID", "access,id", "none"])
def test_it_shows_sts_one_of_two_tokens_and_starts_with_no_other(
    environ: dict[str, str], stage: Stage, cloud: LocalCloud, value: str
) -> None:
    if "STS_TOKEN" in environ:
        with pytest.raises(ConfigurationError, match="expected access or id"):
            _start({**environ, "STS_TOKEN": value}, stage, cloud)


# Where STS is shown the ID token, it has to be the caller's own.


@contextmanager
def _served(environ: Mapping[str, str], stage: Stage, cloud: LocalCloud) -> Iterator[Callable[..., tuple[int, Any]]]:
    settings = Settings.from_environ(environ)
    app = main.create_app(settings, session=stage.session, fetch_keys=cloud.keys, write=lambda _: None)
    server = AgentServer(app)

    def ask(actor: Actor, **headers: str) -> tuple[int, Any]:
        sent = {
            "Authorization": f"Bearer {actor.tokens.access}",
            "Content-Type": "application/json",
            SESSION_HEADER: actor.new_session_id(),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        answer = urllib3.request(
            "POST", f"http://127.0.0.1:{server.port}/invocations", body=json.dumps({"prompt": "hello"}), headers=sent
        )
        return answer.status, answer.json()

    try:
        yield ask
    finally:
        server.stop()


def _colleague(stage: Stage, tenant_id: str) -> Actor:
    email, password = f"colleague@{tenant_id}.example", f"Aa1!{secrets.token_urlsafe(18)}"
    stage.users(tenant_id).invite(tenant_id, email, administrator=False, mail=False)
    stage.users(tenant_id).set_password(email, password)
    return stage.actor(tenant_id, email, password)


def test_only_the_callers_own_id_token_is_shown_to_sts(
    environ: dict[str, str], stage: Stage, cloud: LocalCloud, acme: Actor, globex: Actor
) -> None:
    if "STS_TOKEN" not in environ:
        return  # nothing here is shown to STS
    colleague = _colleague(stage, acme.name)
    with _served({**environ, "STS_TOKEN": "id"}, stage, cloud) as ask:

        def with_id_token(token: str) -> tuple[int, Any]:
            return ask(acme, **{ID_TOKEN_HEADER: token})

        for strange in (colleague.tokens.id, globex.tokens.id, acme.tokens.access, "a.b.c", ""):
            status, body = with_id_token(strange)
            assert (status, body["error"]["code"]) == (401, "invalid_token")
        status, body = ask(acme)
        assert (status, body["error"]["code"]) == (401, "invalid_token")
        assert with_id_token(acme.tokens.id)[0] == 200
        # Nor later, while the credentials from the exchange are at hand.
        assert with_id_token(globex.tokens.id)[0] == 401


# What it never prints, logs or lets out.


def _logged(cloud: LocalCloud, stage: Stage) -> str:
    """What all runtimes logged: here they share one process, and so its loggers."""
    cloud.flush()
    pages = stage.session.client("logs").get_paginator("filter_log_events")
    events = [page["events"] for group in stage.log_groups() for page in pages.paginate(logGroupName=group)]
    return "\n".join(event["message"] for page in events for event in page)


def _require_none_of(hidden: list[str], *shown: str) -> None:
    for secret in hidden:
        for part in secret.split("."):
            assert len(part) < 12 or not any(part in text for text in shown), "a secret shows"


def test_an_exchange_and_an_answer_print_nothing_and_log_no_secret(
    cloud: LocalCloud,
    stage: Stage,
    acme: Actor,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    # A token of its own, so that it is exchanged here and now.
    actor = stage.actor(acme.name, acme.email, acme.password)
    words = f"remember that I prefer {secrets.token_hex(12)}"
    for payload in ({"prompt": words}, {"prompt": words, "stream": True}):
        session_id = actor.new_session_id()
        answer = stage.invoke(actor, payload, actor.tokens.access, session_id, id_token=actor.tokens.id)
        assert answer.status == 200
        _require_none_of([actor.tokens.access, actor.tokens.id], answer.text)
    credentials = stage.access(actor).session.get_credentials()
    assert credentials is not None
    hidden = [actor.tokens.access, actor.tokens.id, credentials.access_key, credentials.secret_key, credentials.token]
    printed = capfd.readouterr()
    assert printed.out == ""
    _require_none_of([*hidden, words.rpartition(" ")[2]], printed.err, caplog.text, _logged(cloud, stage))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("place", ["wiring.open_doors", "main.converse"])
def test_what_goes_wrong_is_told_to_nobody_in_its_own_words(
    cloud: LocalCloud,
    stage: Stage,
    acme: Actor,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    place: str,
    stream: bool,
) -> None:
    words = secrets.token_hex(16)

    def fail(*_: object, **__: object) -> None:
        try:
            raise ValueError(words)
        except ValueError as error:
            raise RuntimeError(f"failed with {words}") from error

    monkeypatch.setattr(f"saas_agent.{place}", fail)
    answer = stage.invoke(acme, {"prompt": "hello", "stream": stream}, acme.tokens.access, acme.new_session_id(),
                          id_token=acme.tokens.id)  # fmt: skip
    assert "internal" in answer.text
    printed = capfd.readouterr()
    assert printed.out == ""
    _require_none_of([words], answer.text, printed.err, caplog.text, _logged(cloud, stage))


def test_a_library_that_quotes_a_prompt_is_logged_without_its_words(
    cloud: LocalCloud,
    stage: Stage,
    acme: Actor,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert stage.ask(acme, "hello").status == 200
    words = secrets.token_hex(16)
    libraries = (
        *("strands.event_loop.streaming", "bedrock_agentcore.memory.client", "bedrock_agentcore.auth"),
        *("mcp.client.streamable_http", "client", "opentelemetry.context", "asyncio"),
    )
    for name in libraries:
        logging.getLogger(name).warning("raw_input=<%s> | failed", words)
        try:
            raise ValueError(words)
        except ValueError:
            logging.getLogger(name).exception("tool execution failed")
    try:
        raise ValueError(words)
    except ValueError:
        logging.getLogger("bedrock_agentcore.app").exception("Invocation completed successfully (%.3fs)", 1)
    logging.getLogger("somebody.else").warning("is seen")
    logged = _logged(cloud, stage)
    # caplog would not do: it listens at loggers that hand nothing on.
    _require_none_of([words], capfd.readouterr().err, logged)
    assert [name for name in (*libraries, "bedrock_agentcore.app") if f"library={name} " not in logged] == []
    assert "exception=ValueError" in logged
    # Else nothing here would show what other libraries log.
    assert "is seen" in logged


def test_what_a_callers_baggage_says_is_not_logged(
    environ: dict[str, str],
    stage: Stage,
    cloud: LocalCloud,
    acme: Actor,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert stage.ask(acme, "hello").status == 200  # for a runtime whose log there is
    words = secrets.token_hex(16)
    bundle = "aws.agentcore.configbundle"
    with _served(environ, stage, cloud) as ask:
        for baggage in (
            words,
            f"={words}",
            f"{words}=",
            f"{bundle}_arn={words},{bundle}_version={words}",
            f"{bundle}_arn=arn/{words},{bundle}_version={words}",
        ):
            ask(acme, baggage=baggage)

        def fail(*_: object) -> None:
            raise ValueError(words)

        monkeypatch.setattr("bedrock_agentcore.runtime.app._parse_config_bundle_baggage", fail)
        ask(acme, baggage=words)
    logged = _logged(cloud, stage)
    _require_none_of([words], capfd.readouterr().err, logged)
    assert "library=bedrock_agentcore.config_bundle.baggage" in logged
    assert "library=bedrock_agentcore.app" in logged
    assert "Invocation completed successfully" in logged


def test_a_stream_that_is_cut_and_fails_as_it_ends_quotes_nothing(
    stage: Stage,
    cloud: LocalCloud,
    acme: Actor,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words, ended = secrets.token_hex(16), threading.Event()

    def fail(self: OwnActorSessionManager) -> None:
        ended.set()
        raise ValueError(words)

    monkeypatch.setattr(OwnActorSessionManager, "close", fail)
    unraised: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraised.append)
    answer = urllib3.PoolManager().request(
        "POST",
        stage.home(acme.name).invocations,
        json={"prompt": "hello " * 300, "stream": True},
        headers={
            "Authorization": f"Bearer {acme.tokens.access}",
            SESSION_HEADER: acme.new_session_id(),
            ID_TOKEN_HEADER: acme.tokens.id,
        },
        preload_content=False,
    )
    assert answer.read(10)
    answer.close()
    assert ended.wait(30)
    for _ in range(100):
        if "failed kind=ValueError" in (logged := _logged(cloud, stage)):
            break
        time.sleep(0.1)
    assert "failed kind=ValueError" in logged
    _require_none_of([words], capfd.readouterr().err, logged)
    # Python prints what is raised as a generator is collected.
    assert not unraised


def test_what_nobody_catches_is_printed_without_its_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    words = secrets.token_hex(16)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(Settings, "from_environ", lambda _: None)
    monkeypatch.setattr(main, "create_app", lambda *_, **__: SimpleNamespace(run=lambda port: None))
    main.run()

    def fail() -> None:
        raise ValueError(words)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    error = ValueError(words)
    caught: Any = SimpleNamespace(exc_type=ValueError, exc_value=error, exc_traceback=None, err_msg=None, object=1)
    sys.unraisablehook(caught)
    assert [record.getMessage() for record in caplog.records] == ["failed kind=ValueError"] * 2
    _require_none_of([words], capfd.readouterr().err, caplog.text)


def test_what_gets_to_the_web_server_is_logged_without_its_words(stage: Stage, acme: Actor) -> None:
    assert stage.ask(acme, "hello").status == 200
    server, seen = logging.getLogger("uvicorn.error"), list[str]()

    class Console(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    handler = Console()
    server.addHandler(handler)
    try:
        try:
            raise ValueError
        except ValueError:
            server.error("Exception in ASGI application", exc_info=True)
        server.error("is seen")
    finally:
        server.removeHandler(handler)
    assert seen == ["is seen"]


def test_the_details_of_a_refusal_are_not_in_its_text() -> None:
    refused = Refused(DENIED, "a detail")
    assert "detail" not in f"{refused} {refused!r} {refused.args}"


@dataclass
class _Services:
    """A session whose every client and call fails with an error that quotes what it was given, or gives credentials."""

    error: Exception | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    def client(self, *_: object, **__: object) -> "_Services":
        return self

    def get_credentials(self) -> None:
        return None

    def invoke(self, **asked: Any) -> dict[str, Any]:
        return self.assume_role_with_web_identity(**asked)

    def assume_role_with_web_identity(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        if self.error:
            raise self.error
        raise AssertionError("no answer")


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda words: ClientError({"Error": {"Code": "InvalidIdentityToken", "Message": words}}, "Exchange"), None),
        (lambda words: EndpointConnectionError(endpoint_url=words), "internal"),
    ],
)
def test_a_failed_exchange_quotes_neither_token_nor_answer(
    environ: dict[str, str],
    stage: Stage,
    cloud: LocalCloud,
    acme: Actor,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    make: Callable[[str], Exception],
    code: str | None,
) -> None:
    words = secrets.token_hex(16)
    services = _Services(make(f"{acme.tokens.access} {words}"))
    settings = Settings.from_environ(environ)
    exchange = wiring.credential_exchange(settings, services)
    with caplog.at_level(logging.DEBUG), pytest.raises(Refused) as caught:
        exchange(VerifiedToken(acme.tenant, acme.tokens.access))
    refused = caught.value
    if code and services.asked:
        assert refused.reason.code == code
    # The shortest session that STS gives: nothing is exchanged for longer than it is used.
    assert all(asked.get("DurationSeconds", 900) == 900 for asked in services.asked)
    chained = f"{refused.__cause__!r}" if not refused.__suppress_context__ else ""
    printed = capfd.readouterr()
    shown = f"{refused} {refused!r} {refused.detail} {exchange!r} {chained}"
    _require_none_of([acme.tokens.access, words], shown, printed.out, printed.err, caplog.text)
