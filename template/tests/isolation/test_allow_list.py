"""Layer one: the policies hold what the allow-list names and nothing else."""

from local.iam import as_list
from saas_agent.tenancy.placement import load_placement

from .allow_list import ALLOWED, NEVER, component_of, never, violations
from .documents import Documents, statements


def test_no_policy_holds_more_than_the_allow_list(documents: Documents) -> None:
    assert list(violations(documents)) == []


def test_the_allow_list_holds_nothing_that_has_no_condition_key() -> None:
    assert [action for allowed in ALLOWED.values() for action in allowed if never(action)] == []
    assert all(NEVER.values())


def test_every_component_of_this_variant_is_granted(documents: Documents) -> None:
    granted = {
        component_of(resource, documents)
        for statement in statements(documents.tenant.policies)
        for resource in as_list(statement["Resource"])
    }
    placed = {"memory", "dynamodb", "s3"} & set(load_placement().components)
    assert granted - {"guardrail"} == {"registry", "model"} | placed
    # The matrix leaves out a store that it finds no ARN of.
    assert bool(documents.table) == ("dynamodb" in placed)
    assert bool(documents.bucket) == ("s3" in placed)


def test_records_by_namespace_and_by_path_are_granted_apart(documents: Documents) -> None:
    """Two keys in one statement would both have to match: neither way of asking would work."""
    by_key = [
        key.removeprefix("bedrock-agentcore:")
        for statement in statements(documents.tenant.policies)
        for operator, keys in statement.get("Condition", {}).items()
        if operator != "Null"
        for key in keys
        if key.startswith("bedrock-agentcore:namespace")
    ]
    assert sorted(by_key) == ["namespace", "namespacePath"]
