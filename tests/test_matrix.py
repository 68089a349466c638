"""`variants.yml` says what it means, and everybody reads the same list."""

import itertools
from typing import Any

import pytest
import yaml

from .matrix import (
    ROOT,
    MatrixError,
    choices,
    every_combination,
    load,
    parse,
    questions,
    table,
    whole,
)

GOOD = {"id": "a", "gives": "something", "answers": {}}


def document(**changes: Any) -> dict[str, Any]:
    return {"supported": [{**GOOD, **changes}], "refused": []}


def test_an_answer_that_is_no_question_is_refused() -> None:
    with pytest.raises(MatrixError, match="unknown answer storrage; expected one of project_name"):
        parse(document(answers={"storrage": []}))


def test_an_entry_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(MatrixError, match="expected supported"):
        parse(document(answer={}))


def test_an_id_that_stands_twice_is_refused() -> None:
    with pytest.raises(MatrixError, match="stands twice"):
        parse({"supported": [GOOD, GOOD], "refused": []})


def test_every_storage_meets_every_way_to_credentials() -> None:
    pairs = [whole(variant)[:2] for variant in load().supported]
    stores = [subset for size in range(3) for subset in itertools.combinations(choices("storage"), size)]
    assert sorted(pairs) == sorted(itertools.product(stores, choices("tenant_credentials")))


@pytest.mark.parametrize("ci", choices("ci"))
def test_every_pipeline_meets_several_variants(ci: str) -> None:
    assert sum(whole(variant)[2] == ci for variant in load().supported) >= 2


def test_every_combination_is_rendered_once() -> None:
    combinations = [whole(variant) for variant in every_combination()]
    assert len(combinations) == len(set(combinations)) == 4 * 2 * 3


def test_every_question_gives_its_parts_in_the_same_order() -> None:
    order = ["type", "help", "choices", "multiselect", "default", "validator"]
    for key, question in questions().items():
        assert list(question) == [part for part in order if part in question], key
        assert {"type", "help", "default"} <= set(question), key


def test_the_questions_are_those_that_were_published() -> None:
    published = {
        "project_name": "Support Desk",
        "project_slug": questions()["project_slug"]["default"],
        "aws_region": "us-east-1",
        "storage": ["dynamodb", "s3"],
        "tenant_credentials": "web_identity",
        "ci": "github",
    }
    assert {key: question["default"] for key, question in questions().items()} == published
    assert choices("storage") == ["dynamodb", "s3"]
    assert choices("tenant_credentials") == ["web_identity", "token_vending"]
    assert choices("ci") == ["github", "gitlab", "none"]


def test_copying_needs_no_trust() -> None:
    document = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
    assert not {"_tasks", "_jinja_extensions"} & set(document)
    assert all("version" in migration for migration in document.get("_migrations", []))


def test_the_readme_shows_the_table() -> None:
    assert table() in (ROOT / "README.md").read_text(encoding="utf-8"), (
        "README.md lacks the table that `python -m tests.matrix table` prints"
    )
