"""Tools for attachments, kept in the tenant's files."""

from typing import Any

from strands import tool

from saas_agent.wiring import Doors

_MAX_CHARACTERS = 20_000


def tools(doors: Doors) -> list[Any]:
    """The tools, on the caller's own files."""
    files = doors.files

    @tool
    def store_attachment(name: str, text: str) -> str:
        """Store a text attachment, over one of the same name.

        Args:
            name: The file's name, such as note.txt or 2026/report.txt.
            text: Its content.
        """
        files.put(name, text.encode(), content_type="text/plain; charset=utf-8")
        return f"Stored {name} ({len(text)} characters)."

    @tool
    def read_attachment(name: str) -> str:
        """Read a text attachment.

        Args:
            name: The file's name.
        """
        content = files.get(name)
        if content is None:
            return f"There is no attachment {name}."
        return content.decode(errors="replace")[:_MAX_CHARACTERS]

    @tool
    def list_attachments() -> str:
        """List the names of the company's attachments."""
        return "\n".join(files.list()) or "There are no attachments."

    return [store_attachment, read_attachment, list_attachments]
