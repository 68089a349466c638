"""OAuth tokens of a third party, from AgentCore Identity, with the tenant's own credentials and the user's own token.

Where tenants share a runtime and everything else, one provider of the platform's exchanges the user's token for one of
the third party's, on behalf of the user: the third party takes the tenant from the token that it verifies, and no
tenant needs a provider of its own, of which an account has 50. A tenant that has anything of its own has its own client
at the third party, in a provider that is named like it: it gets tokens as itself, machine to machine.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Literal

from bedrock_agentcore.services.identity import IdentityClient
from botocore.exceptions import ClientError

from saas_agent.errors import INTERNAL, INVALID_TOKEN, Refused
from saas_agent.outbound import NOT_CONNECTED, Where, valid_credential
from saas_agent.tenancy.access import TenantAccess, seen_when_denied

SCOPES = ("issues",)

_SEPARATOR = "_"  # occurs in no service, stage or tenant


def provider_name(*owner: str) -> str:
    """The name of a provider, and of the workload identity that asks it: of the platform's service and stage, or of a
    tenant's in it."""
    return _SEPARATOR.join(owner)


class TenantIdentityClient(IdentityClient):
    """AgentCore's client, which asks as the tenant and never as the process: the stock one takes whatever credentials
    the process has."""

    def __init__(self, access: TenantAccess) -> None:
        # Without the stock constructor, which makes clients of its own.
        self.region = str(access.session.region_name)
        self.dp_client = access.client("bedrock-agentcore")
        self.logger = logging.getLogger("bedrock_agentcore.identity_client")


class ThirdPartyToken:
    """An access token of the third party for this tenant, or for its user, as a `Credential`."""

    def __init__(self, access: TenantAccess, where: Where) -> None:
        """Refused where the provider is another tenant's, which no stack says."""
        own = where.owner[2:]
        if own and own[0] != access.tenant.tenant_id:
            raise Refused(INTERNAL, f"the provider at hand is of another tenant than {access.tenant.tenant_id}")
        self._flow: Literal["M2M", "ON_BEHALF_OF_TOKEN_EXCHANGE"] = "M2M" if own else "ON_BEHALF_OF_TOKEN_EXCHANGE"
        self._access = access
        self._name = provider_name(*where.owner)
        self._token: str | None = None
        self._anew = False

    def headers(self) -> Mapping[str, str]:
        """See `Credential`."""
        if self._token is None:
            self._token = self._get()
        return {"Authorization": f"Bearer {self._token}"}

    def renewed(self) -> bool:
        """See `Credential`: once, past the tokens that AgentCore keeps."""
        again = not self._anew
        self._token, self._anew = None, True
        return again

    def _get(self) -> str:
        client = TenantIdentityClient(self._access)
        with seen_when_denied("outbound.token", self._access.tenant):
            try:
                workload = client.get_workload_access_token(self._name, user_token=self._access.token)
                token = asyncio.run(
                    client.get_token(
                        provider_name=self._name,
                        scopes=list(SCOPES),
                        agent_identity_token=workload["workloadAccessToken"],
                        auth_flow=self._flow,
                        force_authentication=self._anew,
                    )
                )
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code == "ResourceNotFoundException":
                    raise Refused(NOT_CONNECTED, "there is no provider of tokens for the third party") from None
                if code == "UnauthorizedException":
                    raise Refused(INVALID_TOKEN, "AgentCore Identity doesn't take the user's token") from None
                raise
        if not valid_credential(token):
            raise Refused(INTERNAL, "the third party's token can't be sent in a header")
        return token
