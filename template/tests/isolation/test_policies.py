"""The layers, on the policies as deployed: allow-list, matrix, trust, and the mutants that these must notice."""

from collections import Counter
from collections.abc import Mapping

import pytest

from local.iam import Request, as_list, evaluate
from local.stage import Stage
from saas_agent.tenancy.placement import load_placement

from . import allow_list, matrix, trust
from .documents import Documents, deployed_policies, ways
from .mutants import Mutant, mutants


@pytest.fixture(scope="session", params=ways())
def documents(stage: Stage, request: pytest.FixtureRequest) -> Documents:
    """Every role of the deployment, as IAM holds it, seen by the tenants of each way of being placed."""
    return deployed_policies(stage, request.param)


# Layer one: the policies hold what the allow-list names and nothing else.


def test_no_policy_holds_more_than_the_allow_list(documents: Documents) -> None:
    assert list(allow_list.violations(documents)) == []


def test_the_allow_list_holds_nothing_that_has_no_condition_key() -> None:
    assert [action for allowed in allow_list.ALLOWED.values() for action in allowed if allow_list.never(action)] == []
    assert all(allow_list.NEVER.values())


def test_every_component_of_this_variant_is_granted(documents: Documents) -> None:
    granted = {
        allow_list.component_of(resource, documents)
        for statement in allow_list.tenant_statements(documents)
        for resource in as_list(statement["Resource"])
    }
    placed = {"memory", "dynamodb", "s3"} & set(load_placement().components)
    placed |= {"outbound"} if documents.secrets else set()
    placed |= {"tokens", "client"} if documents.tokens else set()
    if documents.only_looks_up:
        assert granted == {"registry"}
        return
    knowledge = documents.knowledge
    assert bool(knowledge) == ("knowledge_base" in load_placement().components)
    if knowledge:
        placed |= {"documents", "knowledge_function" if knowledge.function else "knowledge_base"}
    assert granted - {"guardrail"} == {"registry", "quotas", "ledger", "model"} | placed
    # The matrix leaves out a store that it finds no ARN of.
    assert bool(documents.table) == ("dynamodb" in placed)
    assert bool(documents.bucket) == ("s3" in placed)


def test_tenants_stacks_make_no_pool_a_tenants_but_their_own(documents: Documents, stage: Stage) -> None:
    placement = load_placement()
    if not placement.own_user_pools:
        return  # and CloudFormation may tag none
    assert documents.stacks
    policies = documents.stacks.policies
    tags = {"service": placement.service, "stage": stage.outputs["Stage"], "TenantId": "acme"}
    pools = f"arn:aws:cognito-idp:{documents.region}:{documents.account}:userpool/{documents.region}_"

    def may(verb: str, pool: str, asked: Mapping[str, str], there: Mapping[str, str]) -> bool:
        context = {f"aws:RequestTag/{key}": value for key, value in asked.items()}
        context |= {f"aws:ResourceTag/{key}": value for key, value in there.items()}
        return evaluate(policies, Request(f"cognito-idp:{verb}", pool, context)).allowed

    for verb in ("CreateUserPool", "TagResource"):
        assert may(verb, f"{pools}new", tags, {})
        assert not may(verb, f"{pools}new", {"service": tags["service"], "stage": tags["stage"]}, {})
    for verb in ("TagResource", "UpdateUserPool", "DeleteUserPool"):
        assert may(verb, f"{pools}own", tags, tags)
        for key in ("service", "stage"):
            assert not may(verb, f"{pools}others", tags, {**tags, key: "other"})
            assert not may(verb, f"{pools}others", tags, {key: "other"})
    if hub := stage.outputs.get("UserPoolId"):
        platforms = {key: tags[key] for key in ("service", "stage")}
        for there in ({}, platforms, tags):
            assert not may("TagResource", pools.rpartition("/")[0] + f"/{hub}", tags, there)
        assert not may("UpdateUserPool", pools.rpartition("/")[0] + f"/{hub}", tags, platforms)


def test_records_by_namespace_and_by_path_are_granted_apart(documents: Documents) -> None:
    """Two keys in one statement would both have to match: neither way of asking would work."""
    by_key = [
        key.removeprefix("bedrock-agentcore:")
        for statement in allow_list.tenant_statements(documents)
        for operator, keys in statement.get("Condition", {}).items()
        if operator != "Null"
        for key in keys
        if key.startswith("bedrock-agentcore:namespace")
    ]
    assert sorted(by_key) == ([] if documents.only_looks_up else ["namespace", "namespacePath"])


# Layer two: own data is reached, and nobody else's, by every action on every component.


def test_every_tenant_reaches_its_own_data_and_nothing_else(documents: Documents) -> None:
    assert list(matrix.violations(documents)) == []


def test_the_matrix_asks_every_granted_component_for_both_verdicts(documents: Documents) -> None:
    asked = Counter(question.expected for question in matrix.questions(documents))
    assert asked[True] >= (1 if documents.only_looks_up else 10)
    # Three callers more than the tenant itself ask for everything, where a session's tag tells tenants apart.
    assert asked[False] > (2 if documents.tenant.tenant else 10) * asked[True]


def test_no_caller_but_a_tenant_is_expected_anywhere(documents: Documents) -> None:
    callers = {"acme"} if documents.tenant.tenant else set(matrix.CALLERS)
    assert {question.caller for question in matrix.questions(documents)} == callers
    assert {q.caller for q in matrix.questions(documents) if q.expected} == {"acme"}


def test_every_action_on_data_has_a_line_of_its_own_and_of_others() -> None:
    for table in matrix.TABLES:
        names = Counter(row.name for row in table.rows)
        assert max(names.values()) == 1, names


# Layer three: only a proper token, or the credentials function, becomes the tenant role.


def test_only_the_proper_way_leads_into_each_role(documents: Documents) -> None:
    assert list(trust.violations(documents)) == []


def test_exactly_one_attempt_on_the_tenant_role_succeeds(documents: Documents) -> None:
    expected = [attempt for role, attempt in trust.attempts(documents) if role is documents.tenant]
    # Or one for each service that runs what is the tenant's own.
    assert sum(attempt.allowed for attempt in expected) == (len(documents.own_services) if documents.own_runtime else 1)
    assert len(expected) > 15


# Layer four: the layers above notice every hole that is cut into the policies.


def _survives(mutant: Mutant, original: Documents) -> bool:
    """Only the roles that the mutant changed are asked about: the others have no hole, as a test below says."""
    if mutant.seen == "text":
        return next(allow_list.violations(mutant.documents), None) is None
    return not any(next(layer.violations(mutant.documents, original), None) for layer in (trust, matrix))


def test_no_mutant_of_the_policies_survives(documents: Documents) -> None:
    assert [mutant.name for mutant in mutants(documents) if _survives(mutant, documents)] == []


def test_there_are_mutants_of_every_kind(documents: Documents) -> None:
    made = mutants(documents)
    names = Counter(mutant.name for mutant in made)
    assert max(names.values()) == 1, names
    assert len(made) >= (20 if documents.only_looks_up else 40)
    assert {mutant.seen for mutant in made} == {"verdict", "text"}


def test_the_policies_as_they_are_have_no_hole(documents: Documents) -> None:
    """Else every mutant would seem to be killed."""
    for layer in (allow_list, matrix, trust):
        assert next(layer.violations(documents), None) is None
