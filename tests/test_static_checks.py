"""What is generated passes its own format, style, type and CloudFormation checks."""

import hashlib
from pathlib import Path

import pytest
from cfnlint.api import lint_file
from cfnlint.config import ManualArgs

from .matrix import Variant, choices, every_combination, load
from .rendering import Renderings, contents, copy
from .running import python
from .sharing import folder, once

COMBINATIONS = list(every_combination())


def by_id(variant: Variant) -> str:
    return variant.id


@pytest.mark.parametrize("variant", COMBINATIONS, ids=by_id)
def test_it_is_formatted(variant: Variant, renderings: Renderings) -> None:
    python(renderings[variant], "ruff", "format", "--check", "--diff", "--no-cache", ".")


@pytest.mark.parametrize("variant", COMBINATIONS, ids=by_id)
def test_it_has_no_finding_of_the_linter(variant: Variant, renderings: Renderings) -> None:
    python(renderings[variant], "ruff", "check", "--no-cache", ".")


@pytest.mark.parametrize("variant", load().supported, ids=by_id)
def test_its_types_are_right(variant: Variant, renderings: Renderings, type_cache: Path) -> None:
    python(renderings[variant], "mypy", "--cache-dir", str(type_cache))


@pytest.mark.parametrize("ci", choices("ci"))
def test_the_pipeline_changes_no_code(ci: str, template: Path, renderings: Renderings, tmp_path: Path) -> None:
    def code(rendered: Path) -> dict[str, tuple[int, bytes]]:
        suffixes = (".py", ".toml", ".txt")
        return {
            name: content
            for name, content in contents(rendered).items()
            if name.endswith(suffixes) or name.startswith("infra/")
        }

    copy(template, tmp_path / ci, {"ci": ci})
    [default] = [variant for variant in load().supported if variant.id == "default"]
    assert code(tmp_path / ci) == code(renderings[default])


@pytest.fixture(scope="session")
def linted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Findings by the hash of a template's bytes: variants that share a template share its check."""
    return folder(tmp_path_factory, "linted")


@pytest.mark.parametrize("variant", COMBINATIONS, ids=by_id)
def test_its_cloudformation_has_neither_error_nor_warning(
    variant: Variant, renderings: Renderings, linted: Path
) -> None:
    paths = sorted((renderings[variant] / "infra").glob("*.yaml"))
    assert len(paths) >= 2
    for path in paths:

        def lint(findings: Path, template: Path = path) -> None:
            found = lint_file(template, ManualArgs(regions=["us-east-1", "eu-central-1"]))
            lines = [f"{template.name}:{match.linenumber}: {match.rule.id} {match.message}" for match in found]
            findings.write_text("\n".join(lines), "utf-8")

        assert once(linted / hashlib.sha256(path.read_bytes()).hexdigest(), lint).read_text("utf-8") == ""
