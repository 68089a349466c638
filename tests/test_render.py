"""Every combination of answers renders, whole and the same each time, or is refused."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from .matrix import ROOT, Refused, Variant, every_combination, load, whole
from .rendering import Renderings, contents, copy

COMBINATIONS = list(every_combination())
LEFT_OVER = re.compile(
    rb"\{%-?\s*(if|elif|else|endif|for|endfor|include|macro|endmacro|set)\b"
    rb"|\{\{-?\s*(project_|aws_region|storage\b|tenant_credentials|ci\b|_copier|of_tenant)"
    rb"|\{#"
)
PIPELINES = {"github": ".github/workflows/ci.yml", "gitlab": ".gitlab-ci.yml"}


def by_id(entry: Variant | Refused) -> str:
    return entry.id


@pytest.mark.parametrize("variant", COMBINATIONS, ids=by_id)
def test_no_jinja_is_left_over(variant: Variant, renderings: Renderings) -> None:
    files = contents(renderings[variant])
    assert not [name for name in files if name.endswith(".jinja") or "{" in name]
    assert not {name: found.group() for name, (_, text) in files.items() if (found := LEFT_OVER.search(text))}


@pytest.mark.parametrize("variant", COMBINATIONS, ids=by_id)
def test_every_file_ends_with_one_newline(variant: Variant, renderings: Renderings) -> None:
    files = contents(renderings[variant])
    assert not [
        name for name, (_, text) in files.items() if text and (not text.endswith(b"\n") or text.endswith(b"\n\n"))
    ]


@pytest.mark.parametrize("variant", COMBINATIONS, ids=by_id)
def test_it_has_its_own_pipeline_and_no_other(variant: Variant, renderings: Renderings) -> None:
    rendered = renderings[variant]
    ci = whole(variant)["ci"]
    assert [name for name, path in PIPELINES.items() if (rendered / path).exists()] == [ci] * (ci in PIPELINES)
    assert (rendered / ".github").exists() == (ci == "github")
    if ci in PIPELINES:
        assert yaml.safe_load((rendered / PIPELINES[ci]).read_text(encoding="utf-8"))


@pytest.mark.parametrize("ci", PIPELINES)
def test_a_pipeline_deploys_without_asking_and_says_whom_to_trust(ci: str, template: Path) -> None:
    text = (template / "template" / PIPELINES[ci]).read_text(encoding="utf-8")
    deploys = re.findall(r"make deploy\b.*", text)
    assert deploys
    # Nobody can be asked there: without it, deploying ends with an error.
    assert [line for line in deploys if not line.endswith("ARGS=--yes")] == []
    header = text.partition("\n\n")[0]
    assert "StringEquals, never StringLike" in header
    assert re.search(
        r"^#   \S+:sub = (repo|project_path):\S+:(environment:dev|ref_type:branch:ref:<default branch>)", header, re.M
    )


@pytest.mark.parametrize("variant", load().supported, ids=by_id)
def test_it_is_the_same_when_rendered_again(
    variant: Variant, renderings: Renderings, template: Path, tmp_path: Path
) -> None:
    copy(template, tmp_path / "again", variant.answers)
    assert contents(tmp_path / "again") == contents(renderings[variant])


@pytest.mark.parametrize("refused", load().refused, ids=by_id)
def test_it_is_refused_with_one_line(refused: Refused, template: Path, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        copy(template, tmp_path / "refused", refused.answers)
    assert str(caught.value) == refused.reason
    assert not (tmp_path / "refused").exists()


def test_the_command_line_refuses_with_that_line_last(template: Path, tmp_path: Path) -> None:
    destination = tmp_path / "refused"
    done = subprocess.run(
        [sys.executable, "-m", "copier", "copy", "--defaults", "--data", "ci=jenkins"]
        + [str(template), str(destination)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == ("ValueError: Invalid choice for 'ci': 'jenkins' is not in ['github', 'gitlab', 'none']")
    assert not destination.exists()


def test_the_slug_follows_from_the_name(template: Path, tmp_path: Path) -> None:
    copy(template, tmp_path / "named", {"project_name": "Acme & Sons (EU) Help+Desk"})
    placement = (tmp_path / "named" / "placement.toml").read_text(encoding="utf-8")
    assert 'name = "acme-sons-eu-help-desk"' in placement


def test_what_an_answer_leaves_out_exists() -> None:
    patterns = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))["_exclude"]
    paths = [line for pattern in patterns for line in pattern.splitlines() if line.startswith("/")]
    assert paths
    assert not [
        path
        for path in paths
        if not (ROOT / f"template{path}").exists() and not (ROOT / f"template{path}.jinja").exists()
    ]
