"""Tools for issues at a third party, an issue tracker, with OAuth: on behalf of the user, or as the company."""

import json
from typing import Any

from strands import tool

from saas_agent.wiring import Doors


def tools(doors: Doors) -> list[Any]:
    """The tools, on the company's own workspace."""
    issues = doors.reported_issues

    @tool
    def report_issue(title: str) -> str:
        """Report an issue to the company's issue tracker in the user's name.

        Args:
            title: What it is about, in a sentence.
        """
        return f"Reported issue {issues.open(title)}: {title}"

    @tool
    def list_reported_issues() -> str:
        """List the issues that were reported to the company's issue tracker, and who reported each."""
        found = issues.list()
        return json.dumps(found) if found else "There are no reported issues."

    return [report_issue, list_reported_issues]
