"""Tiers: what a tenant may use, as `tiers.toml` says."""

import re
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from saas_agent import configuration
from saas_agent.errors import ConfigurationError

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_MOST_SESSIONS = 2000


@dataclass(frozen=True)
class Tier:
    """One tier. `model`: a Bedrock model or inference profile id.

    Limits of one request: prompt_characters: longest prompt taken. output_tokens: the most that one model call may
    write. turns: model calls. total_tokens: input and output of all model calls of the request together; checked
    between calls, so the call under way is finished.
    Limits of a tenant as a whole: tokens_per_day and tokens_per_month, in UTC, cached ones included;
    requests_per_minute; concurrent_sessions, see `quotas.SESSION_SECONDS`.
    """

    name: str
    model: str
    prompt_characters: int
    output_tokens: int
    turns: int
    total_tokens: int
    tokens_per_day: int
    tokens_per_month: int
    requests_per_minute: int
    concurrent_sessions: int


def parse_tiers(document: dict[str, Any]) -> dict[str, Tier]:
    """`{"tiers": {name: {...}}}` -> tiers by name; ConfigurationError names the key that is missing or off."""
    tables = document.get("tiers")
    if not isinstance(tables, dict) or not tables:
        raise ConfigurationError("tiers.toml holds no tier; expected at least one table such as [tiers.basic]")
    return {name: _tier(name, table) for name, table in tables.items()}


def _tier(name: str, table: dict[str, Any]) -> Tier:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"tiers.toml: {name!r} is no tier's name; expected lower-case letters, digits, hyphens"
        )
    expected = {field.name: field.type for field in fields(Tier) if field.name != "name"}
    if set(table) != set(expected):
        odd = ", ".join(sorted(set(table) ^ set(expected)))
        raise ConfigurationError(
            f"tiers.toml, [tiers.{name}]: missing or unknown {odd}; expected {', '.join(expected)}"
        )
    for key, kind in expected.items():
        value = table[key]
        good = isinstance(value, str) and value if kind is str else type(value) is int and value > 0
        if not good:
            wanted = "a text" if kind is str else "a whole number above 0"
            raise ConfigurationError(f"tiers.toml, [tiers.{name}] {key}: {value!r}; expected {wanted}")
    tier = Tier(name=name, **table)
    if tier.tokens_per_day > tier.tokens_per_month:
        raise ConfigurationError(f"tiers.toml, [tiers.{name}] tokens_per_day: more than tokens_per_month; lower it")
    if tier.concurrent_sessions > _MOST_SESSIONS:
        raise ConfigurationError(
            f"tiers.toml, [tiers.{name}] concurrent_sessions: {tier.concurrent_sessions}; expected at most "
            f"{_MOST_SESSIONS}, since all of a tenant's sessions are in one item"
        )
    return tier


@cache
def load_tiers() -> dict[str, Tier]:
    """The tiers of `tiers.toml`, by name."""
    return parse_tiers(configuration.load("tiers.toml"))
