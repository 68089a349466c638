"""What the team has agreed to: `tenancy.lock` says where each component is and how tenants are told apart.

`python -m updates.agreement` compares it with placement.toml, which follows the answers; `--agree` writes it. No update
touches the file, so whatever else changes the placement leaves a difference behind, and tests/isolation fails on it.
"""

import argparse
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

LOCK = "tenancy.lock"
PLACEMENT = "placement.toml"
# Names of AWS resources, which nobody agrees to.
_NOT_AGREED = "service"

_HEADER = """\
# What this team has agreed to: where each tier's components are, and how tenants are told apart. No update touches this
# file. `make agree` writes it from placement.toml, after you have changed an answer on purpose; review the change.
"""


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested document by dotted key: {"placement.basic.runtime": "shared"}."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def placement(text: str) -> dict[str, Any]:
    """The text of placement.toml by dotted key, its names of resources included."""
    return flat(tomllib.loads(text))


def in_force(text: str) -> dict[str, Any]:
    """What there is to agree to in the text of placement.toml, by dotted key."""
    return {key: value for key, value in placement(text).items() if key.partition(".")[0] != _NOT_AGREED}


def agreed(text: str) -> dict[str, Any]:
    """The text of tenancy.lock by dotted key; ValueError for what is no lock."""
    try:
        return flat(yaml.safe_load(text))
    except (yaml.YAMLError, AttributeError):
        raise ValueError(
            f"{LOCK} is not what `make agree` writes; restore it, or look at placement.toml and agree"
        ) from None


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """One line for each key whose value is not the same: what it was and what it is."""
    for key in dict.fromkeys([*before, *now]):
        if key not in now:
            yield f"{key}: {before[key]} -> nothing"
        elif key not in before:
            yield f"{key}: new, {now[key]}"
        elif before[key] != now[key]:
            yield f"{key}: {before[key]} -> {now[key]}"


def lock(text: str) -> str:
    """The text of tenancy.lock that agrees to the text of placement.toml."""
    document = {key: value for key, value in tomllib.loads(text).items() if key != _NOT_AGREED}
    return _HEADER + yaml.safe_dump(document, sort_keys=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Shows what differs; exit status 1 where something does and isn't agreed to now."""
    parser = argparse.ArgumentParser(prog="python -m updates.agreement", description=__doc__)
    parser.add_argument("--agree", action="store_true", help="agree to what is in force")
    arguments = parser.parse_args(argv)
    root = Path.cwd()
    text = (root / PLACEMENT).read_text(encoding="utf-8")
    path = root / LOCK
    try:
        before = agreed(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        print(f"agreement: {error}", file=sys.stderr)
        before = {}
    found = list(differences(before, in_force(text)))
    for line in found:
        print(line)
    if arguments.agree:
        path.write_text(lock(text), encoding="utf-8")
        print(f"{LOCK} agrees to placement.toml; commit both together." if found else f"{LOCK} agreed already.")
        return 0
    print(
        f"{LOCK} doesn't agree: `make agree` accepts this, `copier update` undoes it." if found else f"{LOCK} agrees."
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
