"""The tenant's key at a third party, out of a secret of its own.

The secret's name and tag hold the tenant's id; it is read with the tenant's own credentials, when a tool calls, and
kept for the request.
"""

from collections.abc import Mapping

from botocore.exceptions import ClientError

from saas_agent.errors import INTERNAL, Refused
from saas_agent.outbound import NOT_CONNECTED, Where, valid_credential
from saas_agent.tenancy.access import TenantAccess, seen_when_denied


def secret_name(service: str, stage: str, tenant_id: str) -> str:
    """The name of the secret that holds the tenant's key."""
    return f"{service}/{stage}/tenants/{tenant_id}/issue_tracker"


class TenantKey:
    """The tenant's key at the third party, as a `Credential`."""

    def __init__(self, access: TenantAccess, where: Where) -> None:
        service, stage, *_ = where.owner
        self._access = access
        self._name = secret_name(service, stage, access.tenant.tenant_id)
        self._key: str | None = None

    def headers(self) -> Mapping[str, str]:
        """See `Credential`."""
        if self._key is None:
            self._key = self._read()
        return {"X-Api-Key": self._key}

    def renewed(self) -> bool:
        """See `Credential`: a key doesn't expire."""
        return False

    def _read(self) -> str:
        with seen_when_denied("outbound.key", self._access.tenant):
            try:
                answer = self._access.client("secretsmanager").get_secret_value(SecretId=self._name)
            except ClientError as error:
                if error.response["Error"]["Code"] == "ResourceNotFoundException":
                    raise Refused(NOT_CONNECTED, "the tenant has no key at the third party") from None
                raise
        key = answer.get("SecretString")
        if not valid_credential(key):
            raise Refused(INTERNAL, "the tenant's key can't be sent in a header; put it there again")
        return str(key)
