"""The credentials of a tenant whose runtime is its own: the role that the runtime runs in is the tenant's.

Its policies name the tenant literally, so there is nothing to exchange; a token of anybody else is refused here, as the
runtime's authorizer has refused it already.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import boto3

from saas_agent.errors import INTERNAL, NOT_HERE, Refused
from saas_agent.tenancy.access import TemporaryCredentials
from saas_agent.tenancy.token import VerifiedToken

# botocore renews the runtime's credentials at least ten minutes before they end, so what it hands out lasts this long.
_GOOD_FOR = timedelta(minutes=5)


@dataclass(frozen=True)
class RuntimeRole:
    """The runtime's own credentials, for its own tenant alone. session: boto3 session of the execution role."""

    session: boto3.Session = field(repr=False)
    tenant_id: str

    def __call__(self, caller: VerifiedToken) -> TemporaryCredentials:
        """The role's credentials as they are now; Refused with not_here for the token of another tenant."""
        if caller.tenant.tenant_id != self.tenant_id:
            raise Refused(NOT_HERE, f"a token of another tenant at the runtime of {self.tenant_id}")
        credentials = self.session.get_credentials()
        if credentials is None:
            raise Refused(INTERNAL, "the runtime has no credentials")
        frozen = credentials.get_frozen_credentials()
        return TemporaryCredentials(
            frozen.access_key, frozen.secret_key, frozen.token or "", datetime.now(UTC) + _GOOD_FOR
        )
