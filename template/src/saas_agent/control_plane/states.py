"""The states of a tenant, and the moves between them that there are."""

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """Where a tenant stands. Only an ACTIVE one gets tokens."""

    PROVISIONING = "PROVISIONING"
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    FAILED = "FAILED"


MOVES: Mapping[Status, frozenset[Status]] = {
    Status.PROVISIONING: frozenset({Status.ACTIVE, Status.FAILED}),
    Status.ACTIVE: frozenset({Status.SUSPENDED}),
    Status.SUSPENDED: frozenset({Status.ACTIVE}),
    Status.FAILED: frozenset({Status.PROVISIONING}),
}


def may_move(old: Status, new: Status) -> bool:
    """True where a tenant may go from `old` to `new` in one move."""
    return new in MOVES[old]
