"""What the platform stack tells the agent, from the runtime's environment variables."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from saas_agent.errors import ConfigurationError


@dataclass(frozen=True)
class Settings:
    """The runtime's environment: what every request needs as fields, what one door needs through `resource`.

    tenant_id: the one tenant that this runtime serves; None for a runtime that tenants share.
    """

    service: str
    stage: str
    region: str
    issuer: str
    client_id: str
    registry_table: str
    quota_table: str
    ledger_table: str
    tenant_id: str | None
    guardrail_id: str | None
    guardrail_version: str | None
    _environ: Mapping[str, str] = field(repr=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Reads what `infra/platform.yaml` sets; ConfigurationError names the first that is missing or off."""
        return cls(
            service=required(environ, "SERVICE"),
            stage=required(environ, "STAGE"),
            region=required(environ, "AWS_REGION"),
            issuer=required(environ, "ISSUER"),
            client_id=required(environ, "CLIENT_ID"),
            registry_table=required(environ, "REGISTRY_TABLE"),
            quota_table=required(environ, "QUOTA_TABLE"),
            ledger_table=required(environ, "LEDGER_TABLE"),
            tenant_id=environ.get("TENANT_ID") or None,
            guardrail_id=environ.get("GUARDRAIL_ID") or None,
            guardrail_version=environ.get("GUARDRAIL_VERSION") or None,
            _environ=dict(environ),
        )

    def resource(self, name: str) -> str:
        """The name or ARN of a resource, by its variable; ConfigurationError where it is missing."""
        return required(self._environ, name)


def required(environ: Mapping[str, str], name: str) -> str:
    """The variable's value; ConfigurationError where it is missing or empty."""
    if value := environ.get(name):
        return value
    raise ConfigurationError(f"{name} is not set; infra/platform.yaml puts it there: deploy the platform stack")
