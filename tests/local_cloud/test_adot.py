"""A runtime's zip with ADOT, started as the template says, with a collector: what leaves it, and what doesn't."""

import base64
import gzip
import io
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
import urllib3

from infra import package
from infra.package import Package, build
from local.cloud import LocalCloud
from local.proof import tiers_to_prove
from local.stage import SESSION_HEADER, Actor, Stage
from saas_agent.tenancy.placement import load_placement
from saas_agent.tracing import ATTRIBUTES

SECONDS = 60

# Where Cognito publishes its keys; the local cloud does so at its own address.
KEYS = """
import os, urllib.request

_open = urllib.request.urlopen

def urlopen(url, *arguments, **options):
    cognito = f"https://cognito-idp.{os.environ['AWS_REGION']}.amazonaws.com"
    return _open(url.replace(cognito, os.environ["AWS_ENDPOINT_URL"]), *arguments, **options)

urllib.request.urlopen = urlopen
"""

# With the packages of the zip: this environment has no OTLP.
DECODED = """
import sys
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

print(MessageToJson(ExportTraceServiceRequest.FromString(sys.stdin.buffer.read()), indent=None))
"""


@dataclass
class Collector:
    """Takes whatever is posted. `posted`: path and body of each request."""

    address: str = ""
    posted: list[tuple[str, bytes]] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator["Collector"]:
        posted = self.posted

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                unpack = gzip.decompress if self.headers.get("Content-Encoding") == "gzip" else bytes
                posted.append((self.path, unpack(body)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(load_placement().region) as running:
        running.deploy(settings={"Tracing": "adot"})
        yield running


@pytest.fixture(scope="module")
def stage(cloud: LocalCloud) -> Stage:
    return cloud.stage()


@pytest.fixture(scope="module")
def acme(stage: Stage) -> Actor:
    return stage.onboard("acme", tiers_to_prove()[0])


@pytest.fixture(scope="module")
def runtime(stage: Stage, acme: Actor) -> Mapping[str, Any]:
    """The runtime that serves acme, as its stack made it."""
    runtime_id = stage.home(acme.name).runtime_arn.rpartition("/")[2]
    found: Mapping[str, Any] = stage.session.client("bedrock-agentcore-control").get_agent_runtime(
        agentRuntimeId=runtime_id
    )
    return found


def install_for_this_machine(requirements: Path, target: Path) -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert uv is not None
    options = ["--quiet", "--no-config", "--python", sys.executable, "--target", str(target), "--no-deps"]
    subprocess.run([uv, "pip", "install", *options, "--require-hashes", "-r", str(requirements)], check=True)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip as `make deploy` builds it, but with the wheels of this machine; unpacked with the files' modes."""
    folder = tmp_path_factory.mktemp("runtime")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "_install", install_for_this_machine)
        runtime = build(tracing="adot").runtime
    unpack(runtime, folder)
    return folder


def unpack(zipped: Package, folder: Path) -> None:
    archive = zipfile.ZipFile(io.BytesIO(zipped.content))
    for entry in archive.infolist():
        Path(archive.extract(entry, folder)).chmod(entry.external_attr >> 16)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Python is, without the packages of this environment."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "python3").symlink_to(Path(sys.executable).resolve())
    (folder / "usercustomize.py").write_text(KEYS)
    return folder


@dataclass
class Traced:
    """What a started runtime answered, printed and exported."""

    answers: list[Any] = field(default_factory=list)
    printed: str = ""
    posted: list[tuple[str, bytes]] = field(default_factory=list)
    spans: list[Mapping[str, Any]] = field(default_factory=list)
    resources: list[Mapping[str, Any]] = field(default_factory=list)


WORDS = f"kumquat{secrets.token_hex(4)}"
BAGGAGE = f"tangelo{secrets.token_hex(4)}"
TRACE = secrets.token_hex(16)


@pytest.fixture(scope="module")
def session_id(acme: Actor) -> str:
    return acme.new_session_id()


@pytest.fixture(scope="module")
def environment(
    cloud: LocalCloud, stage: Stage, acme: Actor, runtime: Mapping[str, Any], unpacked: Path, path: Path
) -> dict[str, str]:
    """Of the runtime as a process: what is deployed, its role's credentials, and where things are here."""
    credentials = cloud._runtime_session(stage.home(acme.name)).get_credentials()
    assert credentials is not None
    return {
        **runtime["environmentVariables"],
        **{"PATH": f"{unpacked / 'bin'}{os.pathsep}{path}", "PYTHONPATH": str(path)},
        **{"AWS_REGION": stage.region, "AWS_ENDPOINT_URL": cloud.endpoint, "NO_PROXY": "127.0.0.1"},
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        "AWS_SESSION_TOKEN": str(credentials.token),
    }


@pytest.fixture(scope="module")
def traced(
    acme: Actor,
    runtime: Mapping[str, Any],
    environment: Mapping[str, str],
    unpacked: Path,
    session_id: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Traced:
    """One question to the runtime as a process: entry point, environment, role and zip are the deployed ones."""
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    printed = tmp_path_factory.mktemp("printed") / "all"
    seen = Traced()
    with Collector().serving() as collector, printed.open("wb") as output:
        process = subprocess.Popen(
            runtime["agentRuntimeArtifact"]["codeConfiguration"]["entryPoint"],
            cwd=unpacked,
            env={
                **environment,
                "PORT": str(port),
                # In place of X-Ray's, for whatever is exported.
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
                "OTEL_BSP_SCHEDULE_DELAY": "100",
                "OTEL_METRIC_EXPORT_INTERVAL": "500",
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(lambda: answers(port), process, printed)
            seen.answers.append(ask(port, acme, session_id))
            wait_for(
                lambda: any(not span.get("parentSpanId") for span in decoded(collector, unpacked)[0]), process, printed
            )
            time.sleep(1)  # for what should not come
        finally:
            process.terminate()
            process.wait(SECONDS)
        seen.spans, seen.resources = decoded(collector, unpacked)
    seen.posted, seen.printed = collector.posted, printed.read_text()
    return seen


def wait_for(done: Any, process: "subprocess.Popen[bytes]", printed: Path) -> None:
    until = time.monotonic() + SECONDS
    while not done():
        assert process.poll() is None and time.monotonic() < until, printed.read_text()
        time.sleep(0.2)


def answers(port: int) -> bool:
    try:
        return urllib3.request("GET", f"http://127.0.0.1:{port}/ping", retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def ask(port: int, actor: Actor, session_id: str) -> Any:
    experiment = "aws.agentcore.gateway.routing_experiment"
    headers = {
        "Authorization": f"Bearer {actor.tokens.access}",
        "Content-Type": "application/json",
        SESSION_HEADER: session_id,
        "baggage": f"{experiment}_arn={BAGGAGE},{experiment}_variant_name={BAGGAGE},session.id={BAGGAGE},{BAGGAGE}",
        "traceparent": f"00-{TRACE}-{TRACE[:16]}-01",
    }
    body = json.dumps({"prompt": f"remember that I prefer {WORDS}"})
    answer = urllib3.request(
        "POST", f"http://127.0.0.1:{port}/invocations", body=body, headers=headers, timeout=SECONDS
    )
    return answer.status, answer.data.decode()


def decoded(collector: Collector, unpacked: Path) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Spans, each with its scope's name and its attributes by name; and the resources that they came from."""
    spans: list[Mapping[str, Any]] = []
    resources: list[Mapping[str, Any]] = []
    # Messages of one type, put together, are one message.
    body = b"".join(body for where, body in list(collector.posted) if where == "/v1/traces")
    done = subprocess.run(
        [Path(sys.executable).resolve(), "-c", DECODED],
        input=body,
        env={"PYTHONPATH": str(unpacked)},
        capture_output=True,
        check=True,
    )
    for part in json.loads(done.stdout).get("resourceSpans", []):
        resources.append(by_name(part["resource"]))
        for scope in part["scopeSpans"]:
            spans += [{**span, "scope": scope["scope"]["name"], **by_name(span)} for span in scope["spans"]]
    return spans, resources


def by_name(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {"attributes": {one["key"]: one["value"] for one in holder.get("attributes", [])}}


def test_the_entry_point_is_adots(runtime: Mapping[str, Any]) -> None:
    code = runtime["agentRuntimeArtifact"]["codeConfiguration"]
    assert code["entryPoint"] == ["opentelemetry-instrument", "main.py"]


def test_spans_tell_tenant_tier_and_session(traced: Traced, acme: Actor, session_id: str) -> None:
    assert traced.answers[0][0] == 200, traced
    assert len(traced.spans) >= 3
    for span in traced.spans:
        told = {name: span["attributes"][name]["stringValue"] for name in ("tenant.id", "tenant.tier", "session.id")}
        assert told == {"tenant.id": acme.name, "tenant.tier": acme.tenant.tier, "session.id": session_id}
    assert any("gen_ai.usage.input_tokens" in span["attributes"] for span in traced.spans)


def test_nothing_but_the_agents_spans_leaves(traced: Traced) -> None:
    assert {where for where, _ in traced.posted} == {"/v1/traces"}
    assert {span["scope"] for span in traced.spans} == {"strands.telemetry.tracer"}
    for span in traced.spans:
        redacted = {name for name, value in span["attributes"].items() if value == {"stringValue": "REDACTED"}}
        assert set(span["attributes"]) - redacted <= ATTRIBUTES
        assert "events" not in span and "message" not in span.get("status", {})
        followed = {base64.b64decode(span.get(name, "")).hex() for name in ("traceId", "parentSpanId")}
        assert not followed & {TRACE, TRACE[:16]}


def test_nobodys_words_and_no_token_leave(traced: Traced, acme: Actor) -> None:
    assert WORDS in traced.answers[0][1]
    exported = b"".join(body for _, body in traced.posted)
    for secret in (WORDS, BAGGAGE, acme.tokens.access, acme.tokens.id, acme.email, "kumquat"):
        assert secret.encode() not in exported
        assert secret not in traced.printed


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_TRACES_SAMPLER", "parentbased_always_on"), ("OTEL_METRICS_EXPORTER", "otlp")]
)
def test_it_does_not_start_where_more_would_leave(
    runtime: Mapping[str, Any], environment: Mapping[str, str], unpacked: Path, name: str, value: str
) -> None:
    with Collector().serving() as collector:
        done = subprocess.run(
            runtime["agentRuntimeArtifact"]["codeConfiguration"]["entryPoint"],
            cwd=unpacked,
            env={**environment, name: value, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    assert done.returncode == 1
    assert f"The agent does not start: ADOT runs with {name} " in done.stderr
    assert "/v1/traces" not in {where for where, _ in collector.posted}
