"""Tenants' own user pools, each reached in a session that its tag keeps to one tenant: mistakes elsewhere meet IAM."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt

from saas_agent.control_plane.registry import Registry, TenantRecord
from saas_agent.errors import INVALID_TOKEN, Refused
from saas_agent.settings import required
from saas_agent.tenancy.access import TemporaryCredentials, TenantSession
from saas_agent.tenancy.tenant import valid_tenant_id
from saas_agent.tenancy.token import FetchKeys, TokenVerifier, VerifiedToken

TENANT_TAG = "TenantId"

# The shortest that STS gives.
_DURATION_SECONDS = 900


class UserPools:
    """Clients for tenants' pools. Errors of STS are botocore's."""

    def __init__(self, sts: Any, role_arn: str, region: str) -> None:
        """`sts`: a boto3 client. `role_arn`: of the role that may do with a pool what its session's tag says."""
        self._sts = sts
        self._role_arn = role_arn
        self._region = region

    def client(self, tenant_id: str, session_name: str) -> Any:
        """A `cognito-idp` client for the users of this tenant and of no other, for 15 minutes."""
        answer = self._sts.assume_role(
            RoleArn=self._role_arn,
            RoleSessionName=session_name,
            Tags=[{"Key": TENANT_TAG, "Value": tenant_id}],
            DurationSeconds=_DURATION_SECONDS,
        )
        credentials = TemporaryCredentials.from_sts(answer["Credentials"])
        return TenantSession(credentials, self._region).client("cognito-idp")


class Issuers:
    """Verifies a token with the issuer that the registry has for the tenant that it names.

    That is the tenant's own pool where its runtime trusts that, and otherwise the hub, if there is one.
    """

    def __init__(self, registry: Registry, hub: TokenVerifier | None, fetch_keys: FetchKeys) -> None:
        self._registry = registry
        self._hub = hub

        @cache
        def verifier_of(issuer: str, client_id: str) -> TokenVerifier:
            return TokenVerifier(issuer, client_id, fetch_keys)

        self._verifier_of = verifier_of

    @classmethod
    def open(cls, environ: Mapping[str, str], registry: Registry, fetch_keys: FetchKeys) -> "Issuers":
        """With the hub of ISSUER and CLIENT_ID, if any; ConfigurationError where only one of them is there."""
        has_hub = "ISSUER" in environ or "CLIENT_ID" in environ
        hub = (
            TokenVerifier(required(environ, "ISSUER"), required(environ, "CLIENT_ID"), fetch_keys) if has_hub else None
        )
        return cls(registry, hub, fetch_keys)

    def access_token(self, raw: str) -> VerifiedToken:
        """The verified access token; Refused."""
        return self.verify(raw)[0]

    def verify(self, raw: str) -> tuple[VerifiedToken, TenantRecord]:
        """The verified access token, with the record of its tenant; Refused."""
        tenant = self._registry.get(_named_tenant(raw))
        resources = tenant.resources if tenant is not None else {}
        own = "Issuer" in resources
        verifier = self._verifier_of(resources["Issuer"], resources["ClientId"]) if own else self._hub
        if tenant is None or verifier is None or "UserPoolId" not in resources:
            raise Refused(INVALID_TOKEN, "the registry has no user pool for the tenant")
        caller = verifier.access_token(raw)
        if caller.tenant.tenant_id != tenant.tenant_id:
            raise Refused(INVALID_TOKEN, "the token is of another tenant than it names")
        return caller, tenant


def _named_tenant(raw: str) -> str:
    """The tenant that a token names, before it is verified: it says which issuer may verify it, and nothing else."""
    try:
        tenant_id = jwt.decode(raw, options={"verify_signature": False}).get("tenant_id")
    except jwt.PyJWTError:
        raise Refused(INVALID_TOKEN, "the token can't be read") from None
    if not isinstance(tenant_id, str) or not valid_tenant_id(tenant_id):
        raise Refused(INVALID_TOKEN, "the token names no tenant")
    return tenant_id
