"""`tenants connect`: a tenant's key at the third party, kept where only that tenant's credentials read it."""

import argparse
import getpass
import json
import sys
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from saas_agent.control_plane.client import AdminClient
from saas_agent.control_plane.connection import Connection
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.progress import waiting
from saas_agent.control_plane.states import Status
from saas_agent.outbound import valid_credential
from saas_agent.outbound_key import secret_name


class ThirdPartyKeys:
    """Tenants' keys at the third party, as operators reach them. Errors of AWS itself are botocore's."""

    def __init__(self, client: Any, service: str, stage: str) -> None:
        """`client`: a boto3 Secrets Manager client with an operator's credentials."""
        self._client = client
        self._service = service
        self._stage = stage

    def put(self, tenant_id: str, key: str) -> None:
        """Keeps the key as the tenant's, in the place of one that is there; ControlPlaneError for what is no key."""
        if not valid_credential(key):
            raise ControlPlaneError(
                "that is no key; expected 1 to 4096 visible ASCII characters in one line; copy it from the third party"
            )
        name = secret_name(self._service, self._stage, tenant_id)
        tags = {"TenantId": tenant_id, "service": self._service, "stage": self._stage}
        described = [{"Key": tag, "Value": value} for tag, value in tags.items()]
        try:
            self._client.create_secret(Name=name, SecretString=key, Tags=described)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceExistsException":
                raise
            # The tag first: until it is right, nobody reads the new key.
            self._client.tag_resource(SecretId=name, Tags=described)
            self._client.put_secret_value(SecretId=name, SecretString=key)

    def remove(self, tenant_id: str) -> bool:
        """Deletes the tenant's key at once; whether there was one."""
        name = secret_name(self._service, self._stage, tenant_id)
        try:
            # To delete what isn't there, at once, is no error.
            self._client.describe_secret(SecretId=name)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return False
        self._client.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
        return True


# --- The command ----------------------------------------------------------------------------------


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds `connect` to the `tenants` command. `add`: name, function and help text -> the command's parser."""
    connect = add("connect", _connect, "Keep a tenant's key at the third party; it is read from the standard input.")
    connect.add_argument("tenant_id", metavar="ID")
    connect.add_argument("--remove", action="store_true", help="delete the key instead")


def _connect(arguments: argparse.Namespace, connection: Connection) -> None:
    with waiting("Reading the registry", sys.stderr):
        record = AdminClient(connection.session, connection.api_url).show(arguments.tenant_id)
    if record.status not in (Status.ACTIVE, Status.SUSPENDED) and not arguments.remove:
        raise ControlPlaneError(
            f"tenant {record.tenant_id} is {record.status}; expected ACTIVE or SUSPENDED; finish its onboarding first"
        )
    keys = ThirdPartyKeys(connection.client("secretsmanager"), connection.service, connection.stage)
    if arguments.remove:
        done = keys.remove(record.tenant_id)
        told = (
            "has no key at the third party any more" if done else "had no key at the third party; nothing was changed"
        )
    else:
        keys.put(record.tenant_id, _read_key())
        done, told = True, "is connected: its key at the third party is kept"
    if arguments.output == "json":
        print(json.dumps({"tenant_id": record.tenant_id, "changed": done}, indent=2))
    else:
        print(f"Tenant {record.tenant_id} {told}.")


def _read_key() -> str:
    # Never an argument: other processes of the machine see those, and the shell keeps them.
    return getpass.getpass("Key: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
