"""The issue tracker as its customers reach it: over HTTP, with whatever they have."""

from collections.abc import Mapping
from typing import Any

import urllib3


class IssueTracker:
    """The tracker at this address, and short ways to ask it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, method: str, path: str, shown: Mapping[str, str] | None = None, **more: Any) -> tuple[int, Any]:
        """Status and content of the answer. shown: headers."""
        answer = urllib3.request(method, f"{self.url}{path}", headers=shown, retries=False, **more)
        return answer.status, answer.json()

    def sign_up(self, name: str, issuer: str = "https://login.example.com") -> dict[str, str]:
        """What a new workspace gets."""
        status, content = self.ask("POST", "/workspaces", json={"name": name, "issuer": issuer})
        assert status == 201
        return dict(content)

    def issues(self, workspace: str, shown: Mapping[str, str] | None = None) -> tuple[int, list[dict[str, str]]]:
        """Status and the issues, none where it is not 200."""
        status, content = self.ask("GET", f"/workspaces/{workspace}/issues", shown)
        return status, content.get("issues", [])

    def open(self, workspace: str, title: Any, shown: Mapping[str, str] | None = None) -> tuple[int, dict[str, str]]:
        return self.ask("POST", f"/workspaces/{workspace}/issues", shown, json={"title": title})


def with_key(key: str) -> dict[str, str]:
    return {"X-Api-Key": key}


def with_token(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
