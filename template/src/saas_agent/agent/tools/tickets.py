"""Tools for support tickets, kept in the tenant's table."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from strands import tool

from saas_agent.wiring import Doors

_TICKET = "TICKET#"


def tools(doors: Doors) -> list[Any]:
    """The tools, on the caller's own table."""
    table = doors.table

    @tool
    def open_ticket(subject: str, body: str = "") -> str:
        """Open a support ticket.

        Args:
            subject: What it is about, in a few words.
            body: Details, if there are any.
        """
        ticket_id = f"T-{uuid.uuid4().hex[:8]}"
        opened_at = datetime.now(UTC).isoformat(timespec="seconds")
        ticket = {"subject": subject, "body": body, "status": "open", "opened_at": opened_at}
        table.put(_TICKET + ticket_id, ticket, absent=True)
        return f"Opened {ticket_id}: {subject}"

    @tool
    def list_tickets() -> str:
        """List the company's support tickets, open and closed."""
        tickets = [
            {
                "id": key.removeprefix(_TICKET),
                "subject": ticket["subject"],
                "status": ticket["status"],
            }
            for key, ticket in table.query(_TICKET, limit=50)
        ]
        return json.dumps(tickets) if tickets else "There are no tickets."

    @tool
    def close_ticket(ticket_id: str) -> str:
        """Close a support ticket.

        Args:
            ticket_id: The ticket's id, such as T-1a2b3c4d.
        """
        ticket = table.get(_TICKET + ticket_id)
        if ticket is None:
            return f"There is no ticket {ticket_id}."
        closed_at = datetime.now(UTC).isoformat(timespec="seconds")
        table.put(_TICKET + ticket_id, {**ticket, "status": "closed", "closed_at": closed_at})
        return f"Closed {ticket_id}: {ticket['subject']}"

    return [open_ticket, list_tickets, close_ticket]
