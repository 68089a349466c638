"""The matrix of variants: what `variants.yml` says, checked against the questions of `copier.yml`.

`python -m tests.matrix ids` prints the ids of the supported variants as a JSON list, for the CI
workflow; `python -m tests.matrix table` prints the README's table.
"""

import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
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
    """All of `variants.yml`. product: the questions of which every combination of answers is rendered and checked."""

    product: tuple[str, ...]
    supported: tuple[Variant, ...]
    refused: tuple[Refused, ...]


@cache
def questions() -> dict[str, dict[str, Any]]:
    """The questions of `copier.yml` by key, in order."""
    document = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
    return {key: question for key, question in document.items() if not key.startswith("_")}


def choices(key: str) -> list[Any]:
    """The values that a question with choices offers; no and yes, where it is one of these."""
    if questions()[key]["type"] == "bool":
        return [False, True]
    offered = questions()[key]["choices"]
    return list(offered.values() if isinstance(offered, dict) else offered)


def parse(document: Mapping[str, Any]) -> Matrix:
    """The parsed file -> Matrix; MatrixError for unknown keys, a wrong shape, an id used twice."""
    try:
        matrix = Matrix(
            product=tuple(document["product"]),
            supported=tuple(Variant(**entry) for entry in document["supported"]),
            refused=tuple(Refused(**entry) for entry in document["refused"]),
        )
    except (KeyError, TypeError) as error:
        raise MatrixError(
            f"variants.yml: {error}; expected product (keys), supported (id, gives, answers) "
            "and refused (id, answers, reason)"
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


def whole(variant: Variant) -> dict[str, Any]:
    """The choices of a variant by key, its defaults filled in; None for a question that isn't asked of it."""
    answers = {key: variant.answers.get(key, questions()[key]["default"]) for key in choice_keys()}
    bridge = answers["deployment_model"] == "bridge"
    if not bridge:
        answers["dedicated_tiers"] = answers["dedicated_components"] = None
    own_runtimes = bridge and len(answers["dedicated_tiers"]) == 3 and "runtime" in answers["dedicated_components"]
    if own_runtimes or answers["deployment_model"] == "silo":
        answers["tenant_credentials"] = None
    return answers


def choice_keys() -> list[str]:
    """The keys of the questions that offer choices, or yes and no, in order."""
    return [key for key, question in questions().items() if "choices" in question or question["type"] == "bool"]


def answers_to(key: str) -> list[Any]:
    """Every answer to a question with choices: each of them, or each subset where several may be chosen."""
    offered = choices(key)
    if not questions()[key].get("multiselect"):
        return [*offered]
    return [list(some) for size in range(len(offered) + 1) for some in itertools.combinations(offered, size)]


# What bridge is rendered with, in turn: runtimes over shared stores, stores under a shared runtime, all but the memory.
_BRIDGES: tuple[tuple[list[str], Callable[[list[str]], list[str]]], ...] = (
    (["premium"], lambda _: ["runtime"]),
    (["standard", "premium"], lambda storage: ["memory", *storage]),
    (["basic", "standard", "premium"], lambda storage: ["runtime", *storage]),
)


# These take turns more slowly than the others, so that each of their answers meets every other's in every model.
_PACE = {"outbound_auth": 2}


def every_combination() -> Iterator[Variant]:
    """The supported variants, then the full product that `variants.yml` asks for."""
    yield from load().supported
    axes = load().product
    others = [key for key in choice_keys() if key not in axes and not key.startswith("dedicated_")]
    for number, combination in enumerate(itertools.product(*map(answers_to, axes))):
        answers = dict(zip(axes, combination, strict=True))
        answers |= {key: answers_to(key)[number // _PACE.get(key, 1) % len(answers_to(key))] for key in others}
        if answers["deployment_model"] == "bridge":
            tiers, components = _BRIDGES[number % len(_BRIDGES)]
            answers |= {"dedicated_tiers": tiers, "dedicated_components": components(answers["storage"])}
        yield Variant(id="-".join(_short(value) for value in combination), gives="", answers=answers)


def _short(answer: Any) -> str:
    return answer if isinstance(answer, str) else "+".join(answer) or "nothing"


def table() -> str:
    """The README's table of the supported variants, in Markdown."""
    keys = [key for key in choice_keys() if not key.startswith("dedicated_")]
    lines = [
        f"| variant | {' | '.join(f'`{key}`' for key in keys)} | what it gives |",
        "|---" * (len(keys) + 2) + "|",
    ]
    for variant in load().supported:
        cells = [_cell(answer) for key, answer in whole(variant).items() if key in keys]
        lines.append(f"| {variant.id} | {' | '.join(cells)} | {variant.gives} |")
    return "\n".join(lines) + "\n"


def _cell(answer: Any) -> str:
    if answer is None:
        return ""
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return f"`{answer}`" if isinstance(answer, str) else ", ".join(f"`{each}`" for each in answer) or "none"


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
