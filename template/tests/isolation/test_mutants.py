"""Layer four: the layers above notice every hole that is cut into the policies."""

from collections import Counter

from . import allow_list, matrix, trust
from .documents import Documents
from .mutants import Mutant, mutants


def _survives(mutant: Mutant) -> bool:
    layers = (allow_list,) if mutant.seen == "text" else (trust, matrix)
    return not any(next(layer.violations(mutant.documents), None) for layer in layers)


def test_no_mutant_of_the_policies_survives(documents: Documents) -> None:
    assert [mutant.name for mutant in mutants(documents) if _survives(mutant)] == []


def test_there_are_mutants_of_every_kind(documents: Documents) -> None:
    made = mutants(documents)
    names = Counter(mutant.name for mutant in made)
    assert max(names.values()) == 1, names
    assert len(made) >= 40
    assert {mutant.seen for mutant in made} == {"verdict", "text"}


def test_the_policies_as_they_are_have_no_hole(documents: Documents) -> None:
    """Else every mutant would seem to be killed."""
    for layer in (allow_list, matrix, trust):
        assert next(layer.violations(documents), None) is None
