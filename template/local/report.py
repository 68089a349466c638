"""The demo's report: one HTML page that needs nothing else, readable on a phone, light and dark."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from local.attacks.judgement import Verdict
from local.proof import Access, Outcome, worked

STYLE = Path(__file__).with_name("report.css")


@dataclass(frozen=True)
class TenantUsage:
    """What one tenant used. cost_usd: a decimal text; `unpriced` counts model calls without a price."""

    tenant: str
    tier: str
    invocations: int
    model_calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: str
    unpriced: int


@dataclass(frozen=True)
class Run:
    """One run of the demo. left_out: which attacks were not run, and why, in a line each."""

    service: str
    region: str
    placement: str
    began: datetime
    seconds: float
    decisions: int
    accesses: Sequence[Access]
    outcomes: Sequence[Outcome]
    left_out: Sequence[str]
    usage: Sequence[TenantUsage]

    @property
    def leaked(self) -> int:
        """Attacks that got through."""
        return sum(outcome.verdict is Verdict.LEAKED for outcome in self.outcomes)

    @property
    def proved(self) -> bool:
        """Every own access worked, every attack was stopped, and each was decided."""
        return worked(self.accesses) and bool(self.outcomes) and all(outcome.verdict.safe for outcome in self.outcomes)


def by_area(outcomes: Sequence[Outcome]) -> dict[str, dict[Verdict, int]]:
    """Area -> how many attacks ended in each verdict, in the order in which the areas came up."""
    areas: dict[str, dict[Verdict, int]] = {}
    for outcome in outcomes:
        counts = areas.setdefault(outcome.attack.area, dict.fromkeys(Verdict, 0))
        counts[outcome.verdict] += 1
    return areas


def require_writable(path: Path) -> None:
    """OSError where the page can't be written there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path.parent).close()


def write(run: Run, path: Path) -> None:
    """Writes the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(run), encoding="utf-8")


def page(run: Run) -> str:
    """The page's HTML."""
    tried = [access for access in run.accesses if access.ok is not None]
    stopped = sum(outcome.verdict.safe for outcome in run.outcomes)
    word = "Isolation held" if run.proved else "Isolation is NOT proved"
    when = run.began.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    tiles = [
        (f"{stopped} / {len(run.outcomes)}", "attacks stopped"),
        (str(run.leaked), "leaked"),
        (f"{[access.ok for access in tried].count(True)} / {len(tried)}", "own accesses worked"),
        (str(run.decisions), "decisions recorded"),
    ]
    style = STYLE.read_text(encoding="utf-8")
    facts = [run.service, run.placement, run.region, "local cloud", when, f"{run.seconds:.0f} s"]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>{escape(run.service)}: tenant isolation</title><style>{style}</style></head><body><main>
<header class="{"good" if run.proved else "bad"}"><h1>{escape(word)}</h1>
<p>{escape(", ".join(facts))}</p></header>
<section class="tiles">{"".join(f"<div><b>{value}</b><span>{label}</span></div>" for value, label in tiles)}</section>
<h2>Attacks by area</h2>{_areas(run.outcomes)}
<h2>Tokens and cost per tenant</h2>{_usage(run.usage)}
<h2>Own accesses</h2>{_accesses(run.accesses)}
<h2>Every attack</h2>{_attacks(run.outcomes)}{"".join(f"<p>{escape(line)}</p>" for line in run.left_out)}
<footer>Judged from the decisions that the local cloud recorded on the policies it deployed, not from answers. Costs are
estimates from rates.toml.</footer></main></body></html>
"""


def _areas(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [area, str(sum(counts.values())), *(str(counts[verdict]) for verdict in Verdict)]
        for area, counts in by_area(outcomes).items()
    ]
    return _table(["Area", "Attempts", *(verdict.value.capitalize() for verdict in Verdict)], rows, numbers=range(1, 6))


def _usage(usage: Sequence[TenantUsage]) -> str:
    rows = [
        [
            row.tenant,
            row.tier,
            f"{row.invocations}",
            f"{row.model_calls}",
            f"{row.input_tokens:,}",
            f"{row.output_tokens:,}",
            f"${row.cost_usd}" + (f" + {row.unpriced} unpriced" if row.unpriced else ""),
        ]
        for row in usage
    ]
    head = ["Tenant", "Tier", "Requests", "Model calls", "Tokens in", "Tokens out", "Cost"]
    return _table(head, rows, numbers=range(2, 7))


def _accesses(accesses: Sequence[Access]) -> str:
    rows = [
        [access.tenant, access.title, access.word, f"{access.seconds * 1000:.0f} ms", access.why] for access in accesses
    ]
    return _table(["Tenant", "What", "Worked", "Time", "Answer"], rows, numbers=range(3, 4))


def _attacks(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [o.attack.area, o.attack.title, o.victim, o.verdict.value, o.judgement.why]
        for o in sorted(outcomes, key=lambda outcome: outcome.verdict.safe)
    ]
    return _table(["Area", f"What {outcomes[0].attacker} tried" if outcomes else "What", "On", "Verdict", "Why"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: range = range(0)) -> str:
    def cell(column: int, text: str) -> str:
        kind = ' class="n"' if column in numbers else f' class="{text}"' if text in _WORDS else ""
        return f"<td{kind}>{escape(text)}</td>"

    body = "".join("<tr>" + "".join(cell(i, text) for i, text in enumerate(row)) + "</tr>" for row in rows)
    titles = "".join(f"<th{' class=n' if i in numbers else ''}>{escape(title)}</th>" for i, title in enumerate(head))
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


_WORDS = frozenset({"ok", "FAILED", *(verdict.value for verdict in Verdict)})
