"""How the ledger's function counts 200,000 records; `ledger.py` measures it inside the generated repository."""

from pathlib import Path

from .measure import Row, inside


def measure(rendered: Path) -> list[Row]:
    """`rendered`: the default variant."""
    found, well = inside(rendered, "ledger.py")
    empty, full = found["batch_ms_empty"], found["batch_ms_full"]
    return [
        Row(
            "sums of 200,000 records that differ from plain ones, in a token or a cent",
            f"{found['lines']:,} lines, with copies, poison, in any order",
            float(found["differing"]),
            f"{found['differing']}",
            0,
        ),
        Row(
            "records counted a second, any order / as log streams come",
            f"batches of 500 of {found['lines']:,} lines, processor time",
            0,
            f"{found['records_per_second']:,} / {found['records_per_second_by_stream']:,}",
            None,
        ),
        Row(
            "a batch on a full ledger / on an empty one",
            f"{full} ms / {empty} ms, medians of the same 15 batches in turns"
            + ("" if found["same_calls"] else ", OTHER CALLS"),
            full / empty if found["same_calls"] else float("inf"),
            f"{full / empty:.2f}x",
            1.3,
        ),
        Row("memory of a batch of 500", "allocations, at their peak", 0, f"{found['batch_megabytes']} MB", None),
    ]
