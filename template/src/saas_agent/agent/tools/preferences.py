"""Tools for what the user wants to be remembered."""

from typing import Any

from strands import tool

from saas_agent.wiring import Doors


def tools(doors: Doors) -> list[Any]:
    """The tools, on the caller's own memory."""
    memory = doors.memory

    @tool
    def remember_preference(preference: str) -> str:
        """Remember a preference of the user for later conversations.

        Args:
            preference: The preference in one sentence.
        """
        memory.remember(preference)
        return f"Noted: {preference}"

    return [remember_preference]
