"""The states of a tenant, and the operations that move it from one to another: the one table of both.

`docs/control-plane.md` draws it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Where a tenant stands. Only one that is SERVED gets tokens and answers."""

    PROVISIONING = "PROVISIONING"
    ACTIVE = "ACTIVE"
    UPDATING = "UPDATING"
    SUSPENDED = "SUSPENDED"
    OFFBOARDING = "OFFBOARDING"
    DELETED = "DELETED"
    FAILED = "FAILED"


SERVED = frozenset({Status.ACTIVE, Status.UPDATING})


class Kind(StrEnum):
    """What can be done with a tenant."""

    ONBOARD = "onboard"
    SET_TIER = "set-tier"
    UPGRADE = "upgrade"
    SUSPEND = "suspend"
    RESUME = "resume"
    EXPORT = "export"
    OFFBOARD = "offboard"


@dataclass(frozen=True)
class Course:
    """How an operation moves a tenant.

    begins: the states that it may begin in; None is that of a tenant that there never was. The tenant is in `during`
    from its first moment, which the admin API writes, to its last, where the workflow writes `done` or `failed`. All
    three are None where it moves nothing.
    """

    begins: frozenset[Status | None]
    during: Status | None
    done: Status | None
    failed: Status | None


COURSES: Mapping[Kind, Course] = {
    Kind.ONBOARD: Course(frozenset({None, Status.FAILED}), Status.PROVISIONING, Status.ACTIVE, Status.FAILED),
    # What it has now is served until the new tier is in force, and on when that fails.
    Kind.SET_TIER: Course(frozenset({Status.ACTIVE}), Status.UPDATING, Status.ACTIVE, Status.ACTIVE),
    # A suspended tenant would be served meanwhile, so it waits until it is resumed.
    Kind.UPGRADE: Course(frozenset({Status.ACTIVE}), Status.UPDATING, Status.ACTIVE, Status.ACTIVE),
    # Before anything else, and again where signing out its users failed.
    Kind.SUSPEND: Course(
        frozenset({Status.ACTIVE, Status.UPDATING, Status.SUSPENDED}),
        *(Status.SUSPENDED, Status.SUSPENDED, Status.SUSPENDED),
    ),
    Kind.RESUME: Course(frozenset({Status.SUSPENDED}), Status.SUSPENDED, Status.ACTIVE, Status.SUSPENDED),
    Kind.EXPORT: Course(frozenset({Status.ACTIVE, Status.UPDATING, Status.SUSPENDED}), None, None, None),
    Kind.OFFBOARD: Course(
        frozenset({Status.ACTIVE, Status.SUSPENDED, Status.FAILED}),
        *(Status.OFFBOARDING, Status.DELETED, Status.FAILED),
    ),
}


def may_begin(kind: Kind, status: Status | None, failed: Kind | None) -> bool:
    """Whether an operation may begin on a tenant in this state; `failed`: the operation that left it FAILED.

    A tenant whose offboarding failed can only be offboarded: what is left of it serves nobody.
    """
    begins = status in COURSES[kind].begins
    return begins and (status is not Status.FAILED or kind is Kind.OFFBOARD or failed is kind)
