"""Layer three: only a proper token, or the credentials function, becomes the tenant role."""

from .documents import Documents
from .trust import attempts, violations


def test_only_the_proper_way_leads_into_each_role(documents: Documents) -> None:
    assert list(violations(documents)) == []


def test_exactly_one_attempt_on_the_tenant_role_succeeds(documents: Documents) -> None:
    expected = [attempt for role, attempt in attempts(documents) if role is documents.tenant]
    assert sum(attempt.allowed for attempt in expected) == 1
    assert len(expected) > 15
