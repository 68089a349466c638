"""Tools for issues at a third party, an issue tracker, with the company's own key."""

import json
from typing import Any

from strands import tool

from saas_agent.wiring import Doors


def tools(doors: Doors) -> list[Any]:
    """The tools, on the company's own workspace."""
    issues = doors.issues

    @tool
    def open_issue(title: str) -> str:
        """Open an issue in the company's issue tracker.

        Args:
            title: What it is about, in a sentence.
        """
        return f"Opened issue {issues.open(title)}: {title}"

    @tool
    def list_issues() -> str:
        """List the issues in the company's issue tracker."""
        found = issues.list()
        return json.dumps(found) if found else "There are no issues."

    return [open_issue, list_issues]
