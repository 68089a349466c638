"""Where components are and how tenants are told apart is what the team has agreed to."""

from saas_agent import configuration
from updates import agreement


def text(name: str) -> str:
    return configuration.find(name).read_text(encoding="utf-8")


def test_what_is_in_force_was_agreed_to() -> None:
    differing = agreement.differences(
        agreement.agreed(text(agreement.LOCK)), agreement.in_force(text(agreement.PLACEMENT))
    )
    assert not list(differing), "nobody agreed to this; undo it, or `make agree` and let it be reviewed"


def test_agreeing_writes_what_was_generated() -> None:
    placement = text(agreement.PLACEMENT)
    assert agreement.agreed(agreement.lock(placement)) == agreement.in_force(placement)


def test_a_component_that_moves_is_a_difference() -> None:
    placement = text(agreement.PLACEMENT)
    before = agreement.in_force(placement)
    key = next(key for key in before if key.startswith("placement."))
    assert list(agreement.differences(before, {**before, key: "elsewhere"})) == [f"{key}: {before[key]} -> elsewhere"]
    gone = {other: value for other, value in before.items() if other != key}
    assert list(agreement.differences(before, gone)) == [f"{key}: {before[key]} -> nothing"]
