"""The tenant's life in steps that are safe to repeat."""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from botocore.exceptions import BotoCoreError, ClientError

from saas_agent.control_plane.errors import Conflict, ControlPlaneError
from saas_agent.control_plane.registry import Registry, TenantRecord, partition_key
from saas_agent.control_plane.stack import TenantStacks
from saas_agent.control_plane.states import Status
from saas_agent.control_plane.users import Users
from saas_agent.tenancy.placement import Placement

# Not all that a mail server would take, but nothing that could be taken for anything else.
_EMAIL = re.compile(r"[a-z0-9][a-z0-9._%+-]*@[a-z0-9-]+(\.[a-z0-9-]+)+")
_EMAIL_LENGTH = 128  # Cognito's longest user name
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")


@dataclass(frozen=True)
class Change:
    """What an operation left: the tenant as it is now, and whether anything was changed."""

    record: TenantRecord
    changed: bool


class Tenants:
    """Onboards, suspends, resumes and shows tenants.

    What it refuses is a ControlPlaneError; errors of AWS itself are botocore's.
    """

    def __init__(
        self, registry: Registry, users: Users, stacks: TenantStacks, tiers: Collection[str], placement: Placement
    ) -> None:
        """`tiers`: the names of the tiers that there are. `stacks`: makes what is dedicated to a tenant."""
        self._registry = registry
        self._users = users
        self._stacks = stacks
        self._tiers = tiers
        self._placement = placement

    def onboard(self, tenant_id: str, *, tier: str, admin: str, name: str | None = None, invite: bool = True) -> Change:
        """Makes the tenant and its administrator; ACTIVE only when everything is there.

        Repeated with the same answers it resumes what was cut short or failed, and changes nothing
        where the tenant is complete. `name` defaults to the id. `invite`: whether the administrator
        is mailed a temporary password.
        """
        admin = admin.strip().lower()
        self._check(tenant_id, tier, admin, name)
        record = self._registry.get(tenant_id)
        if record is None:
            # Before anything is written, so that a wrong address leaves nothing behind.
            self._users.require_free(tenant_id, admin)
            record = self._begin(tenant_id, tier, admin, name)
        _require_same(record, tier, admin, name)
        if record.status is Status.FAILED:
            record = self._registry.move(record, Status.PROVISIONING)
        if record.status is not Status.PROVISIONING:
            return Change(record, changed=False)
        resources: Mapping[str, str] = {}
        try:
            if self._placement.has_own(tier):
                resources = self._stacks.ensure(tenant_id, tier)
            self._users.ensure_admin(tenant_id, admin, invite=invite)
        except Exception:
            self._fail(record)
            raise
        return Change(self._activate(record, resources), changed=True)

    def suspend(self, tenant_id: str) -> Change:
        """No more tokens from now on; then its users are signed out, on a repetition once more."""
        record = self.show(tenant_id)
        changed = record.status is not Status.SUSPENDED
        if changed:
            record = self._registry.move(record, Status.SUSPENDED)
        self._users.sign_out(tenant_id)
        return Change(record, changed)

    def resume(self, tenant_id: str) -> Change:
        """A suspended tenant's users may sign in again."""
        record = self.show(tenant_id)
        if record.status is Status.ACTIVE:
            return Change(record, changed=False)
        if record.status is not Status.SUSPENDED:
            raise ControlPlaneError(
                f"tenant {tenant_id} is {record.status}, not SUSPENDED; "
                "finish its onboarding with the same `tenants onboard` command"
            )
        return Change(self._registry.move(record, Status.ACTIVE), changed=True)

    def show(self, tenant_id: str) -> TenantRecord:
        """The tenant's record; ControlPlaneError where there is no such tenant."""
        record = self._registry.get(tenant_id)
        if record is None:
            raise ControlPlaneError(f"there is no tenant {tenant_id}; expected one of `tenants list`; onboard it first")
        return record

    def all(self) -> Iterator[TenantRecord]:
        """Every tenant, by id."""
        return self._registry.records()

    def _check(self, tenant_id: str, tier: str, admin: str, name: str | None) -> None:
        partition_key(tenant_id)
        if tier not in self._tiers:
            raise ControlPlaneError(
                f"there is no tier {tier!r}; expected {', '.join(self._tiers)}; choose one of these"
            )
        if len(admin) > _EMAIL_LENGTH or _EMAIL.fullmatch(admin) is None:
            raise ControlPlaneError(f"{admin!r} is no e-mail address; expected such as ann@example.com; mend --admin")
        if name is not None and _NAME.fullmatch(name) is None:
            raise ControlPlaneError("the name is malformed; expected 1 to 100 printable characters; mend --name")

    def _begin(self, tenant_id: str, tier: str, admin: str, name: str | None) -> TenantRecord:
        try:
            row = self._placement.row(tier)
            return self._registry.create(tenant_id, tier=tier, name=name or tenant_id, admin=admin, placement=row)
        except Conflict:  # someone else onboards the same tenant: then theirs is the record
            return self.show(tenant_id)

    def _activate(self, record: TenantRecord, resources: Mapping[str, str]) -> TenantRecord:
        try:
            return self._registry.move(record, Status.ACTIVE, resources=resources)
        except Conflict:
            current = self.show(record.tenant_id)
            if current.status is Status.ACTIVE:
                return current
            raise

    def _fail(self, record: TenantRecord) -> None:
        # Where even this fails the tenant stays PROVISIONING, from which onboarding resumes as
        # well.
        with suppress(ControlPlaneError, BotoCoreError, ClientError):
            self._registry.move(record, Status.FAILED)


def _require_same(record: TenantRecord, tier: str, admin: str, name: str | None) -> None:
    given = {"tier": tier, "admin": admin, "name": name or record.name}
    there = {"tier": record.tier, "admin": record.admin, "name": record.name}
    for key, value in given.items():
        if value != there[key]:
            raise ControlPlaneError(
                f"tenant {record.tenant_id} is there already, with {key} {there[key]!r} "
                f"and not {value!r}; repeat the same answers, or choose another id"
            )
