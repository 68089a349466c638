"""What is pinned: by hash, without the address of an index, under licences that bind nobody."""

import re
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from .matrix import ROOT

PINNED = [
    ROOT / "requirements" / "dev.txt",
    *(
        ROOT / "template" / "requirements" / f"{name}.txt"
        for name in ("runtime", "dev", "uv", "update", "analytics", "adot")
    ),
]

PERMISSIVE = re.compile(
    r"\b(MIT(-CMU|-0)?|Apache(-2\.0| Software)?|BSD(-[23]-Clause)?|0BSD|ISC|PSF-2\.0"
    r"|Python Software Foundation|Unlicense|Zlib|CC0-1\.0)\b",
    re.IGNORECASE,
)
COPYLEFT = re.compile(r"\b[AL]?GPL|\bMPL|\bEPL|\bCDDL|\bSSPL|Mozilla Public", re.IGNORECASE)

# Distributions whose licence is none of those or isn't named, and why each may be used.
EXCEPTIONS = {
    "cedarpy": "Apache-2.0 by the licence file in its wheel; its metadata names none",
    "certifi": "MPL-2.0 for a list of certificates, shipped as it is",
    "pathspec": "MPL-2.0, used unchanged by the type checker and by Copier; never shipped",
}


def blocks(path: Path) -> dict[Requirement, list[str]]:
    """Requirement -> its hashes."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split(" --hash=") for line in text.splitlines() if not line.startswith("#")]
    return {Requirement(first.strip()): hashes for first, *hashes in lines if first.strip()}


@pytest.mark.parametrize("path", PINNED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_requirement_is_pinned_by_hash(path: Path) -> None:
    found = blocks(path)
    assert found
    for requirement, hashes in found.items():
        assert [specifier.operator for specifier in requirement.specifier] == ["=="], requirement
        assert hashes and all(value.strip().startswith("sha256:") for value in hashes), requirement


@pytest.mark.parametrize("path", PINNED, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_index_is_named(path: Path) -> None:
    assert not re.search(r"index-url|find-links|://|^--", path.read_text("utf-8"), re.MULTILINE)


def test_what_ships_is_tested_and_what_is_tested_runs_here() -> None:
    here, runtime, development, uv, update, analytics, adot = (
        {f"{entry.name}{entry.specifier}" for entry in blocks(path)} for path in PINNED
    )
    assert runtime <= development <= here
    assert len(uv) == 1
    assert update | analytics <= here
    # But for OpenTelemetry, of which ADOT takes versions of its own.
    assert {entry for entry in runtime - adot if not entry.startswith("opentelemetry-")} == set()


def licence(name: str) -> str:
    """What the installed distribution says of its licence, in whatever field it says it."""
    metadata = distribution(name).metadata
    said = metadata.get_all("License-Expression") or [
        *(metadata.get_all("License") or []),
        *(line for line in metadata.get_all("Classifier") or [] if line.startswith("License")),
    ]
    return " ".join(line.splitlines()[0] for line in said if line)


def test_licences_are_permissive() -> None:
    names = {
        entry.name
        for path in (*PINNED[1:3], PINNED[5])
        for entry in blocks(path)
        if entry.marker is None or entry.marker.evaluate()
    }
    odd = {
        name: said for name in sorted(names) if COPYLEFT.search(said := licence(name)) or not PERMISSIVE.search(said)
    }
    assert {name: said for name, said in odd.items() if name not in EXCEPTIONS} == {}
    assert set(EXCEPTIONS) <= set(odd), "an exception that nothing needs any more"
