"""`make serve`: keeps the local cloud running, and says how to sign in and to ask."""

import argparse
import fcntl
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.cloud import LocalCloud, LocalCloudError
from local.proof import tiers_to_prove
from local.stage import SESSION_HEADER, Stage
from saas_agent.errors import ConfigurationError
from saas_agent.tenancy.placement import load_placement

ENVIRONMENT = Path(".local") / "environment"
LOCK = Path(".local") / "lock"  # held as long as the process lives, however it ends
RESOURCES = {
    "REGISTRY_TABLE": "RegistryTable",
    "TABLE_NAME": "TableName",
    "BUCKET_NAME": "BucketName",
    "DOCUMENTS_BUCKET": "DocumentsBucket",
}
TENANTS = ("acme", "globex")


def main(arguments: list[str] | None = None) -> int:
    """Serves until it is interrupted; exits with 1 and one line where it can't start."""
    parser = argparse.ArgumentParser(prog="make serve", description=__doc__)
    parser.add_argument("--port", type=int, default=4566, help="port on 127.0.0.1 (default 4566)")
    port = parser.parse_args(arguments).port
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        tiers = tiers_to_prove()
        with _only_one_here(), LocalCloud(load_placement().region, port=port) as cloud:
            print("Deploying the platform ...", flush=True)
            cloud.deploy()
            stage = cloud.stage()
            for tenant, tier in zip(TENANTS, tiers, strict=True):
                stage.tenants.onboard(tenant, tier=tier, admin=f"admin@{tenant}.example", invite=False)
            _write_environment(cloud)
            try:
                print(instructions(cloud, stage), flush=True)
                stop.wait()
            finally:
                ENVIRONMENT.unlink(missing_ok=True)
    except (LocalCloudError, ConfigurationError) as error:
        print(f"serve: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _only_one_here() -> Iterator[None]:
    """LocalCloudError where one is served from this folder already: what says where it is would be overwritten."""
    try:
        LOCK.parent.mkdir(exist_ok=True)
        lock = LOCK.open("a", encoding="utf-8")
    except OSError as error:
        raise LocalCloudError(f"{error}; expected a folder where .local/ can be written") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalCloudError(
                "a local cloud is served from this folder already; .local/environment says where: use it, or stop it"
            ) from None
        yield


def instructions(cloud: LocalCloud, stage: Stage) -> str:
    """Commands to paste."""
    invocations = stage.home(TENANTS[0]).invocations
    return f"""
The local cloud runs at {cloud.endpoint} with {" and ".join(TENANTS)}. Ctrl-C ends it.

# Sign in as acme's administrator (a session lasts an hour; the second line starts a conversation):
eval "$(.venv/bin/python -m local.sign_in acme)"

# Ask, then ask as a stream:
curl -s {invocations} -H "Authorization: Bearer $TOKEN" \\
  -H "{SESSION_HEADER}: $SESSION" -d '{{"prompt": "what can you do?"}}'
curl -sN {invocations} -H "Authorization: Bearer $TOKEN" \\
  -H "{SESSION_HEADER}: $SESSION" -d '{{"prompt": "remember that I prefer tea", "stream": true}}'

# Use the AWS command line as the platform's operator:
set -a; . {ENVIRONMENT}; set +a
aws dynamodb scan --table-name $REGISTRY_TABLE

# Run the platform: .venv/bin/tenants --help; every command takes --local.
"""


def _write_environment(cloud: LocalCloud) -> None:
    ENVIRONMENT.touch(mode=0o600)
    outputs = cloud.outputs
    variables = {
        "AWS_ENDPOINT_URL": cloud.endpoint,
        "AWS_ACCESS_KEY_ID": cloud.operator.access_key_id,
        "AWS_SECRET_ACCESS_KEY": cloud.operator.secret_access_key,
        "AWS_REGION": cloud.region,
        "AWS_DEFAULT_REGION": cloud.region,
        **{name: outputs[key] for name, key in RESOURCES.items() if key in outputs},
    }
    ENVIRONMENT.write_text("".join(f"{name}={value}\n" for name, value in variables.items()), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
