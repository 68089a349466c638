"""Layer two: own data is reached, and nobody else's, by every action on every component."""

from collections import Counter

from .documents import Documents
from .matrix import CALLERS, TABLES, questions, violations


def test_every_tenant_reaches_its_own_data_and_nothing_else(documents: Documents) -> None:
    assert list(violations(documents)) == []


def test_the_matrix_asks_every_granted_component_for_both_verdicts(documents: Documents) -> None:
    asked = Counter(question.expected for question in questions(documents))
    assert asked[True] >= 10
    assert asked[False] > 10 * asked[True]


def test_no_caller_but_a_tenant_is_expected_anywhere(documents: Documents) -> None:
    assert {question.caller for question in questions(documents)} == set(CALLERS)
    assert {q.caller for q in questions(documents) if q.expected} == {"acme"}


def test_every_action_on_data_has_a_line_of_its_own_and_of_others() -> None:
    for table in TABLES:
        names = Counter(row.name for row in table.rows)
        assert max(names.values()) == 1, names
