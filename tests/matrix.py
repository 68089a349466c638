"""The matrix of variants: what `variants.yml` says, checked against the questions of `copier.yml`.

`python -m tests.matrix ids` prints the ids of the supported variants as a JSON list, for the CI
workflow; `python -m tests.matrix table` prints the README's table.
"""

import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent

Answers = Mapping[str, Any]


class MatrixError(Exception):
    """`variants.yml` doesn't fit `copier.yml`; the message says where."""


@dataclass(frozen=True)
class Variant:
    """One supported combination of answers. `gives`: what its repository has, in half a line."""

    id: str
    gives: str
    answers: Answers


@dataclass(frozen=True)
class Refused:
    """Answers that Copier must refuse. `reason`: the line it must end with."""

    id: str
    answers: Answers
    reason: str


@dataclass(frozen=True)
class Matrix:
    """All of `variants.yml`."""

    supported: tuple[Variant, ...]
    refused: tuple[Refused, ...]


@cache
def questions() -> dict[str, dict[str, Any]]:
    """The questions of `copier.yml` by key, in order."""
    document = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
    return {key: question for key, question in document.items() if not key.startswith("_")}


def choices(key: str) -> list[str]:
    """The values that a question with choices offers."""
    return list(questions()[key]["choices"].values())


def parse(document: Mapping[str, Any]) -> Matrix:
    """The parsed file -> Matrix; MatrixError for unknown keys, a wrong shape, an id used twice."""
    try:
        matrix = Matrix(
            supported=tuple(Variant(**entry) for entry in document["supported"]),
            refused=tuple(Refused(**entry) for entry in document["refused"]),
        )
    except (KeyError, TypeError) as error:
        raise MatrixError(
            f"variants.yml: {error}; expected supported (id, gives, answers) and refused (id, answers, reason)"
        ) from None
    seen: set[str] = set()
    entries: list[Variant | Refused] = [*matrix.supported, *matrix.refused]
    for entry in entries:
        if entry.id in seen:
            raise MatrixError(f"variants.yml: the id {entry.id} stands twice; expected one entry each")
        seen.add(entry.id)
        # Copier ignores keys that it doesn't know: a misspelt one would test the default.
        if unknown := set(entry.answers) - set(questions()):
            raise MatrixError(
                f"variants.yml, {entry.id}: unknown answer {', '.join(sorted(unknown))}; "
                f"expected one of {', '.join(questions())}"
            )
    return matrix


@cache
def load() -> Matrix:
    """The matrix of `variants.yml`."""
    return parse(yaml.safe_load((ROOT / "tests" / "variants.yml").read_text(encoding="utf-8")))


def whole(variant: Variant) -> tuple[tuple[str, ...], str, str]:
    """The choices of a variant, its defaults filled in: storage, tenant_credentials, ci."""

    def answer(key: str) -> Any:
        return variant.answers.get(key, questions()[key]["default"])

    return tuple(answer("storage")), answer("tenant_credentials"), answer("ci")


def every_combination() -> Iterator[Variant]:
    """The supported variants, then every other combination of the choices."""
    yield from load().supported
    covered = {whole(variant) for variant in load().supported}
    stores = choices("storage")
    subsets = [subset for size in range(len(stores) + 1) for subset in itertools.combinations(stores, size)]
    for combination in itertools.product(subsets, choices("tenant_credentials"), choices("ci")):
        if combination in covered:
            continue
        storage, credentials, ci = combination
        yield Variant(
            id="-".join([*(storage or ["nothing"]), credentials, ci]),
            gives="",
            answers={"storage": list(storage), "tenant_credentials": credentials, "ci": ci},
        )


def table() -> str:
    """The README's table of the supported variants, in Markdown."""
    lines = [
        "| variant | `storage` | `tenant_credentials` | `ci` | what it gives |",
        "|---|---|---|---|---|",
    ]
    for variant in load().supported:
        storage, credentials, ci = whole(variant)
        stores = ", ".join(f"`{store}`" for store in storage) or "none"
        lines.append(f"| {variant.id} | {stores} | `{credentials}` | `{ci}` | {variant.gives} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Prints what the one argument names."""
    match arguments:
        case ["ids"]:
            print(json.dumps([variant.id for variant in load().supported]))
        case ["table"]:
            print(table(), end="")
        case _:
            print("usage: python -m tests.matrix ids|table", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
