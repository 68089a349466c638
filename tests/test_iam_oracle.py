"""The local cloud's policy evaluator agrees with an independent one."""

import importlib.util
import os
import sys
import warnings
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .iam_oracle.cases import SCENES, cases
from .iam_oracle.oracle import Answer, Case, OracleUnavailable, install, judge

ROOT = Path(__file__).parents[1]
SEED = 20261124
NUMBER = 7_000

VERDICTS = {
    "Allowed": "ALLOWED",
    "ImplicitlyDenied": "IMPLICITLY_DENIED",
    "ExplicitlyDenied": "EXPLICITLY_DENIED",
}


def _load_evaluator() -> ModuleType:
    path = ROOT / "template" / "local" / "iam.py"
    spec = importlib.util.spec_from_file_location("iam_under_test", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


iam: Any = _load_evaluator()


def _evaluate(case: Case) -> str:
    role = case.principal.split("/")[1]
    request = iam.Request(
        action=case.action,
        resource=case.resource,
        context=case.context,
        principal=case.principal,
        principal_role=f"arn:aws:iam::{case.principal.split(':')[4]}:role/{role}",
    )
    return str(iam.evaluate(case.policies, request, trust=case.trust).name)


@pytest.fixture(scope="module")
def judged() -> list[tuple[Case, Answer]]:
    try:
        script = install(ROOT / ".cache" / "iam-oracle")
    except OracleUnavailable as reason:
        message = f"the policy evaluator was NOT compared with an independent one: {reason}"
        if os.environ.get("IAM_ORACLE") == "required":
            pytest.fail(f"{message}; expected it, since IAM_ORACLE is required; install Node.js with npm")
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    questions = list(cases(SEED, NUMBER))
    return list(zip(questions, judge(script, questions), strict=True))


def test_the_oracle_understands_every_case(judged: list[tuple[Case, Answer]]) -> None:
    misunderstood = [(case, answer) for case, answer in judged if answer.error or answer.ignored]
    assert not misunderstood[:3]
    assert len(judged) >= 5_000


def test_both_evaluators_reach_the_same_verdict(judged: list[tuple[Case, Answer]]) -> None:
    differing = [
        (case, answer.verdict, _evaluate(case))
        for case, answer in judged
        if VERDICTS[answer.verdict] != _evaluate(case)
    ]
    assert not differing[:3], f"{len(differing)} of {len(judged)} cases differ"


def test_the_cases_reach_every_operator_and_every_verdict(
    judged: list[tuple[Case, Answer]],
) -> None:
    verdicts = Counter(answer.verdict for _, answer in judged)
    assert set(verdicts) == set(VERDICTS)
    assert min(verdicts.values()) > NUMBER // 20, verdicts

    allowed_services = Counter(case.action.split(":")[0] for case, answer in judged if answer.verdict == "Allowed")
    assert min(allowed_services.values()) > NUMBER // len(SCENES) // 10, allowed_services

    used = Counter(
        operator.rpartition(":")[2].removesuffix("IfExists")
        for case, _ in judged
        for policy in case.policies
        for statement in policy["Statement"]
        for operator in statement.get("Condition", {})
    )
    known = {"Null", *iam._COMPARISONS, *iam._INVERTED}
    assert set(used) == known
    assert min(used.values()) >= 20, used


@pytest.mark.parametrize(
    "function, broken",
    [
        ("_conditions_hold", lambda statement, context: True),
        ("_covers_resource", lambda statement, resource, context: True),
        ("_covers_principal", lambda statement, request: True),
    ],
)
def test_a_broken_evaluator_is_noticed(
    judged: list[tuple[Case, Answer]],
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    broken: Any,
) -> None:
    monkeypatch.setattr(iam, function, broken)
    assert any(VERDICTS[answer.verdict] != _evaluate(case) for case, answer in judged)
