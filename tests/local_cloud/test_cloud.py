"""The local cloud as a whole: it starts and stops cleanly, and leads clients nowhere else."""

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import boto3
import pytest
from botocore.exceptions import ClientError

from local.cloud import LocalCloud, LocalCloudError

REGION = "eu-central-1"


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    with LocalCloud(REGION, agent=False) as running:
        yield running


def test_clients_of_this_process_reach_it(cloud: LocalCloud) -> None:
    assert os.environ["AWS_ENDPOINT_URL"] == cloud.endpoint
    identity = cloud.operator_session().client("sts").get_caller_identity()
    assert identity["Account"] == "123456789012"


def test_nobody_else_is_let_in(cloud: LocalCloud) -> None:
    stranger = boto3.Session("AKIASTRANGER", "secret", region_name=REGION)
    with pytest.raises(ClientError):
        stranger.client("dynamodb").list_tables()


def test_the_operators_secret_is_in_no_repr(cloud: LocalCloud) -> None:
    assert cloud.operator.secret_access_key not in repr(cloud.operator)


def test_the_platform_deploys_twice_without_a_change(cloud: LocalCloud) -> None:
    assert cloud.outputs == {}
    first = cloud.deploy()
    assert first["TenantRoleArn"].startswith("arn:aws:iam::123456789012:role/")
    assert cloud.deploy() == first == cloud.outputs


def test_a_second_one_in_the_process_is_refused(cloud: LocalCloud) -> None:
    with pytest.raises(LocalCloudError, match="runs in this process already"):
        LocalCloud(REGION).__enter__()


def in_another_process(script: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environ},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_one_after_the_other_share_nothing_and_leave_the_environment_as_it_was() -> None:
    script = """
        import os
        from local.cloud import LocalCloud
        before = dict(os.environ)
        for number in range(2):
            with LocalCloud("eu-central-1") as cloud:
                assert "AWS_ENDPOINT_URL_S3" not in os.environ and "AWS_PROFILE" not in os.environ
                s3 = cloud.operator_session().client("s3")
                assert s3.list_buckets()["Buckets"] == []
                place = {"LocationConstraint": "eu-central-1"}
                s3.create_bucket(Bucket="the-only-one", CreateBucketConfiguration=place)
            assert dict(os.environ) == before
        print("ok")
    """
    outside = {"AWS_ENDPOINT_URL_S3": "https://elsewhere.example", "AWS_PROFILE": "production"}
    assert in_another_process(script, **outside) == "ok"


def test_a_port_in_use_is_one_clear_line() -> None:
    script = """
        import sys
        from local.cloud import LocalCloud, LocalCloudError
        try:
            LocalCloud("eu-central-1", port=int(sys.argv[1])).__enter__()
        except LocalCloudError as error:
            print(error)
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = in_another_process(script.replace("sys.argv[1]", str(port)))
    assert said.startswith(f"port {port} of 127.0.0.1 can't be used")
    assert len(said.splitlines()) == 1


def test_a_model_that_is_not_known_is_one_clear_line() -> None:
    script = """
        from local.cloud import LocalCloud, LocalCloudError
        try:
            LocalCloud("eu-central-1").__enter__()
        except LocalCloudError as error:
            print(error)
    """
    assert "LOCAL_MODEL=gpt" in in_another_process(script, LOCAL_MODEL="gpt")
