"""What a resource type has to offer, so that a stack can hold resources of it."""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar


class UnsupportedChange(Exception):
    """The local cloud can't create or change a resource as the template asks; one line says why."""


@dataclass(frozen=True)
class Place:
    """Where a resource is created, and what its generated name is made of."""

    account: str
    region: str
    stack_name: str
    logical_id: str

    def name(self, limit: int = 64) -> str:
        """A generated physical name, as CloudFormation makes them, no longer than `limit`."""
        suffix = "-" + secrets.token_hex(6).upper()
        return f"{self.stack_name}-{self.logical_id}"[: limit - len(suffix)] + suffix


@dataclass(frozen=True)
class Resource:
    """A created resource: what `Ref` gives, and what `Fn::GetAtt` gives by attribute name.

    detail: whatever else the kind needs to find the resource again.
    """

    physical_id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    detail: Any = None


Properties = Mapping[str, Any]


class Kind(ABC):
    """How resources of one type are created, updated and deleted.

    replaced_by: properties whose change makes CloudFormation create a new resource.
    tags: the property that the stack's own tags go into, and its form; None where the type has none.
    """

    replaced_by: ClassVar[frozenset[str]] = frozenset()
    tags: ClassVar[tuple[str, type] | None] = None

    def tagged(self, properties: Properties, stack_tags: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """The properties with the tags of the stack; a tag of the resource's own wins."""
        if self.tags is None or not stack_tags:
            return dict(properties)
        name, form = self.tags
        own = properties.get(name) or form()
        own = {tag["Key"]: tag["Value"] for tag in own} if form is list else own
        merged = {**{tag["Key"]: tag["Value"] for tag in stack_tags}, **own}
        as_list = [{"Key": key, "Value": value} for key, value in merged.items()]
        return {**properties, name: as_list if form is list else merged}

    @abstractmethod
    def create(self, place: Place, properties: Properties) -> Resource:
        """Create the resource."""

    @abstractmethod
    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        """Bring the existing resource to the new properties."""

    @abstractmethod
    def delete(self, place: Place, resource: Resource) -> None:
        """Delete the resource."""


def without(properties: Properties, *names: str) -> dict[str, Any]:
    """A copy of the properties that leaves out some."""
    return {name: value for name, value in properties.items() if name not in names}
