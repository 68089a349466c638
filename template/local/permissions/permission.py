"""What a call needs: an IAM action on a resource, with the condition keys of the request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Context = Mapping[str, str | list[str]]


@dataclass(frozen=True)
class Permission:
    """One permission that a call needs.

    Attributes:
        action: "dynamodb:GetItem".
        resource: ARN; "*" where the service knows no resource or it can't be told. Only a policy
            that grants "*" covers that.
        context: condition keys of the request; a list where AWS documents the key as multivalued.
    """

    action: str
    resource: str = "*"
    context: Context = field(default_factory=dict)


def text_context(keys: Mapping[str, Any]) -> Context:
    """Single-valued condition keys, without those whose parameter is not given."""
    return {key: str(value) for key, value in keys.items() if value is not None}
