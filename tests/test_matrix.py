"""`variants.yml` says what it means, and everybody reads the same list."""

import itertools
import re
from collections.abc import Iterable
from typing import Any

import pytest

from .matrix import (
    ROOT,
    MatrixError,
    Variant,
    answers_to,
    choice_keys,
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
    return {"product": [], "supported": [{**GOOD, **changes}], "refused": []}


def test_an_answer_that_is_no_question_is_refused() -> None:
    with pytest.raises(MatrixError, match="unknown answer storrage; expected one of project_name"):
        parse(document(answers={"storrage": []}))


def test_an_entry_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(MatrixError, match="expected product"):
        parse(document(answer={}))


def test_an_id_that_stands_twice_is_refused() -> None:
    with pytest.raises(MatrixError, match="stands twice"):
        parse({"product": [], "supported": [GOOD, GOOD], "refused": []})


def facts(variant: Variant) -> dict[str, Any]:
    """What two variants can differ in: each single choice, and of each list whether it holds a value."""
    return {
        name: value
        for key, answer in whole(variant).items()
        if answer is not None
        for name, value in (
            ((f"{key}: {choice}", choice in answer) for choice in choices(key))
            if isinstance(answer, list)
            else ((key, answer),)
        )
    }


def pairs(variants: Iterable[Variant]) -> set[frozenset[tuple[str, Any]]]:
    """Every two facts that meet in one of the variants."""
    return {frozenset(pair) for variant in variants for pair in itertools.combinations(facts(variant).items(), 2)}


def test_every_two_answers_that_can_meet_do_meet_in_a_supported_variant() -> None:
    met = pairs(load().supported)
    single = [key for key in choice_keys() if not key.startswith("dedicated_")]
    possible = {
        pair for pair in pairs(every_combination()) if all(name.partition(":")[0] in single for name, _ in pair)
    }
    assert sorted(sorted(map(str, pair)) for pair in possible - met) == []


def test_every_component_is_dedicated_and_shared_in_a_supported_bridge() -> None:
    bridges = [whole(variant) for variant in load().supported if variant.answers.get("deployment_model") == "bridge"]
    mixed = [bridge for bridge in bridges if len(bridge["dedicated_tiers"]) < len(choices("dedicated_tiers"))]
    assert len(mixed) < len(bridges)
    for component in choices("dedicated_components"):
        # Some tenants have their own beside the one that the others share.
        assert any(component in bridge["dedicated_components"] for bridge in mixed)
        there = [bridge for bridge in bridges if component in ["runtime", "memory", *bridge["storage"]]]
        assert any(component not in bridge["dedicated_components"] for bridge in there)
    for tier in choices("dedicated_tiers"):
        assert any(tier in bridge["dedicated_tiers"] for bridge in bridges)


def test_the_product_is_rendered_in_full() -> None:
    axes = load().product
    rendered = [tuple(map(str, (whole(variant)[key] for key in axes))) for variant in every_combination()]
    assert set(rendered) == set(itertools.product(*([str(answer) for answer in answers_to(key)] for key in axes)))


def test_every_question_gives_its_parts_in_the_same_order() -> None:
    order = ["type", "help", "choices", "multiselect", "default", "when", "validator"]
    for key, question in questions().items():
        assert list(question) == [part for part in order if part in question], key
        assert {"type", "help", "default"} <= set(question), key


def test_the_questions_are_those_that_were_published() -> None:
    published = {
        "project_name": "Support Desk",
        "project_slug": questions()["project_slug"]["default"],
        "aws_region": "us-east-1",
        "storage": ["dynamodb", "s3"],
        "gateway": False,
        "outbound_auth": [],
        "deployment_model": "pool",
        "dedicated_tiers": ["premium"],
        "dedicated_components": ["runtime"],
        "identity_layout": "shared_user_pool",
        "tenant_credentials": "web_identity",
        "analytics": "cloudwatch",
        "ci": "github",
    }
    assert {key: question["default"] for key, question in questions().items()} == published
    assert choices("storage") == ["dynamodb", "s3", "knowledge_base"]
    assert choices("outbound_auth") == ["api_key", "oauth"]
    assert choices("deployment_model") == ["pool", "silo", "bridge"]
    assert choices("dedicated_tiers") == ["basic", "standard", "premium"]
    assert choices("dedicated_components") == ["runtime", "memory", "dynamodb", "s3", "knowledge_base"]
    assert choices("identity_layout") == ["shared_user_pool", "user_pool_per_tenant"]
    assert choices("tenant_credentials") == ["web_identity", "token_vending"]
    assert choices("analytics") == ["cloudwatch", "athena_quicksight"]
    assert choices("ci") == ["github", "gitlab", "none"]


def test_the_readme_shows_the_table() -> None:
    assert table() in (ROOT / "README.md").read_text(encoding="utf-8"), (
        "README.md lacks the table that `python -m tests.matrix table` prints"
    )


def test_an_update_looks_at_every_answer() -> None:
    *others, last = questions()
    asked = re.search(r"kept\(\[(.*)\], (\w+)\)", str(questions()[last]["validator"]))
    assert asked and re.findall(r"'(\w+)'", asked[1]) == [*others, last], "copier.yml: the last question names all keys"
    assert asked[2] == last and "when" not in questions()[last]


def test_no_answer_is_computed() -> None:
    """It could be forced with `--data`, would leave no trace among the answers, and be another with the next update."""
    assert not [key for key, question in questions().items() if question.get("when") in (False, "false", "no")]
