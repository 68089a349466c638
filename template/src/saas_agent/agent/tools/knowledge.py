"""A tool that looks things up in the tenant's documents."""

from html import escape
from typing import Any

from strands import tool

from saas_agent.wiring import Doors


def tools(doors: Doors) -> list[Any]:
    """The tool, on the caller's own documents."""
    knowledge = doors.knowledge

    @tool
    def search_knowledge(question: str) -> str:
        """Search the company's documents for passages that answer a question.

        Args:
            question: What to look for, as a question or in a few words.
        """
        passages = knowledge.search(question)
        # What a document says is no instruction: it must not be able to close the block and pass for one.
        texts = [f'<passage document="{escape(p.document)}">\n{escape(p.text, False)}\n</passage>' for p in passages]
        return "\n".join(texts) or "The documents say nothing about that."

    return [search_knowledge]
