"""`tenants oauth-client`: clients at the third party's OAuth server, kept as providers of AgentCore Identity.

One of the platform's, which exchanges users' tokens, for all tenants that share everything; one for each tenant that
has anything of its own. An account has 50 such providers unless the quota is raised (AgentCore, "Quotas").
"""

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
from saas_agent.outbound import Where, valid_credential
from saas_agent.outbound_token import provider_name
from saas_agent.tenancy.placement import load_placement

QUOTA = 50
"""Of OAuth2 credential providers in an account and Region, unless it is raised."""

_DISCOVERY = "/.well-known/oauth-authorization-server"
_FULL = {"ServiceQuotaExceededException", "ResourceLimitExceededException"}


class ThirdPartyClients:
    """Providers of the third party's tokens, as operators reach them. Errors of AWS itself are botocore's."""

    def __init__(self, client: Any, service: str, stage: str, url: str) -> None:
        """`client`: a boto3 client of `bedrock-agentcore-control`, with an operator's credentials. `url`: the third
        party's, below which it publishes what its OAuth server is."""
        self._client = client
        self._owner = (service, stage)
        self._url = url

    def put(self, tenant_id: str | None, client_id: str, secret: str) -> int:
        """Keeps a tenant's client, or with None the platform's, in the place of one that is there; how many providers
        the account has. ControlPlaneError where it may have no more."""
        if not (valid_credential(client_id) and valid_credential(secret)):
            raise ControlPlaneError(
                "that is no client; expected a client id and a secret of visible ASCII characters, each in one line; "
                "copy them from the third party"
            )
        name = provider_name(*self._owner, *([tenant_id] if tenant_id else []))
        custom: dict[str, Any] = {
            "oauthDiscovery": {"discoveryUrl": self._url + _DISCOVERY},
            "clientId": client_id,
            "clientSecret": secret,
            "clientAuthenticationMethod": "CLIENT_SECRET_BASIC",
        }
        if tenant_id is None:
            exchange = {"grantType": "TOKEN_EXCHANGE", "tokenExchangeGrantTypeConfig": {"actorTokenContent": "NONE"}}
            custom["onBehalfOfTokenExchangeConfig"] = exchange
        provider = {
            "name": name,
            "credentialProviderVendor": "CustomOauth2",
            "oauth2ProviderConfigInput": {"customOauth2ProviderConfig": custom},
        }
        if name in self._names():
            self._client.update_oauth2_credential_provider(**provider)
        else:
            self._create(provider, tenant_id)
        return len(self._names())

    def has(self, tenant_id: str | None) -> bool:
        """Whether the tenant, or with None the platform, has one."""
        return provider_name(*self._owner, *([tenant_id] if tenant_id else [])) in self._names()

    def _create(self, provider: dict[str, Any], tenant_id: str | None) -> None:
        service, stage = self._owner
        tags = {"service": service, "stage": stage, **({"TenantId": tenant_id} if tenant_id else {})}
        try:
            self._client.create_oauth2_credential_provider(**provider, tags=tags)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _FULL:
                raise
            raise ControlPlaneError(
                f"the account has {len(self._names())} OAuth providers and may have no more; the quota is {QUOTA} by "
                "default; raise it, or move the tenant to a tier that shares everything and needs none"
            ) from None

    def _names(self) -> set[str]:
        pages = self._client.get_paginator("list_oauth2_credential_providers").paginate()
        return {provider["name"] for page in pages for provider in page["credentialProviders"]}


# --- The command ----------------------------------------------------------------------------------


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds `oauth-client` to the `tenants` command. `add`: name, function and help text -> the command's parser."""
    told = "Keep a client at the third party's OAuth server; its secret is read from the standard input."
    parser = add("oauth-client", _keep, told)
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("tenant_id", metavar="ID", nargs="?", help="of a tenant that has anything of its own")
    whose.add_argument("--shared", action="store_true", help="the platform's, for tenants that share everything")
    parser.add_argument("--client-id", required=True, metavar="CLIENT", help="as the third party has it")


def _keep(arguments: argparse.Namespace, connection: Connection) -> None:
    if arguments.tenant_id:
        with waiting("Reading the registry", sys.stderr):
            record = AdminClient(connection.session, connection.api_url).show(arguments.tenant_id)
        if record.status not in (Status.ACTIVE, Status.SUSPENDED):
            raise ControlPlaneError(
                f"tenant {record.tenant_id} is {record.status}; expected ACTIVE or SUSPENDED; "
                "finish its onboarding first"
            )
        if load_placement().column(record.tier, "outbound") == "shared":
            raise ControlPlaneError(
                f"tenant {record.tenant_id} shares everything; expected one with something of its own, since others "
                "get their tokens by the platform's client; pass --shared in place of the tenant"
            )
    clients = clients_of(connection)
    secret = getpass.getpass("Client secret: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
    with waiting("Keeping the client", sys.stderr):
        there = clients.put(arguments.tenant_id, arguments.client_id, secret)
    if arguments.output == "json":
        print(json.dumps({"tenant_id": arguments.tenant_id, "providers": there, "quota": QUOTA}, indent=2))
    else:
        whose = f"of tenant {arguments.tenant_id}" if arguments.tenant_id else "of the platform"
        print(f"The client {whose} is kept. The account has {there} OAuth providers; the quota is {QUOTA} by default.")


def clients_of(connection: Connection) -> ThirdPartyClients:
    """The clients of the connection's stage."""
    outputs = connection.outputs
    url = Where.parse(outputs["Outbound"]).url if "Outbound" in outputs else connection.output("IssueTrackerUrl")
    control = connection.client("bedrock-agentcore-control")
    return ThirdPartyClients(control, connection.service, connection.stage, url)
