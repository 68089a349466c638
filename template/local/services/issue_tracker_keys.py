"""Keys of the issue tracker, which people give to the platform once they have signed up."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from saas_agent.control_plane.third_party_keys import ThirdPartyKeys

if TYPE_CHECKING:
    from ..stage import Stage


def signed_up(stage: "Stage", tenant_id: str, workspace: Mapping[str, str]) -> None:
    """Keeps the new workspace's key as the tenant's."""
    keys = ThirdPartyKeys(stage.session.client("secretsmanager"), stage.outputs["Service"], stage.outputs["Stage"])
    keys.put(tenant_id, workspace["api_key"])
