"""The page that says what the status words of time constants are worth, from what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from feature_pages import escape, table
from ok_sweeps import sweeps_section

import oectflow as of

FEATURE = "transient.tau_on_off"
MEASURED = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "ok.json"


def ok_page() -> str:
    """Return the Markdown page: the promise, the words, and the tables of ``benchmarks/ok.py``."""
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    faults = measured["faults"].values()
    ok = sum(row["ok"] for row in faults)
    wrong = sum(row["wrong"] for row in faults)
    return "\n".join(
        [
            "# What `ok` promises",
            "",
            "A value with the status `ok` is right within its stated error. Whatever the data do "
            "not bear out has another word, and the word says what was seen. Of time constants "
            f"([`{FEATURE}`](../features/{FEATURE}.md)) this is measured on made devices of which "
            "the truth is known. A value counts as wrong that is off by more than 5 of its "
            f"standard errors *and* more than 3 %. With one fault each, **{wrong:,} of {ok:,}** "
            "values with `ok` were wrong.",
            "",
            "The numbers on this page are from",
            "",
            "```bash",
            measured["command"],
            "OECTFLOW_EXAMPLES=2000 pytest tests/extractors/test_transient_faults.py",
            "```",
            "",
            "of which the second looks for a counterexample of each fault, and may find one: in "
            "2,000 examples each, some 30,000 fits, it found one for 1 of 17 faults, two "
            "exponentials.",
            "",
            "## By word",
            "",
            "*Right* is the share of the numbers that are within 5 standard errors or 3 % of the "
            "truth, in the devices with one fault. Where there is no number, it is NaN.",
            "",
            *table(("word", "what was seen", "fits", "a number", "right"), words(measured)),
            "",
            "How each is decided: [How a time constant is found](../explanation/tau.md).",
            "",
            "## By fault",
            "",
            "*Bias* and *scatter* are the median of the relative error of `ok` values, and its "
            "median deviation as a standard deviation. *Hold* is the share of intervals of 95 % "
            "(1.96 standard errors) that hold the truth: more than 95 where the standard error "
            "holds a misfit or a drift that cannot be told from the relaxation.",
            "",
            *table(HEADS, map(summary, measured["faults"].items())),
            "",
            "## Without a fault",
            "",
            "The simulator that comes with the package, n and p, accumulation and depletion, over "
            "a grid of noise (share of the swing), duty cycle, jitter of the clock (share of the "
            "sampling interval), and fading (share of the current lost within the record).",
            "",
            *table(HEADS, map(summary, measured["simulator"].items())),
            "",
            *sweeps_section(),
        ]
    )


HEADS = ("", "fits", "`ok`", "wrong `ok`", "bias", "scatter", "hold")


def words(measured: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return a row for each status word of the extractor, whether it was met or not."""
    rows = []
    for word, meaning in of.get_extractor(FEATURE).variables["status"].statuses.items():
        counts = measured["words"].get(word, {"fits": 0, "numbers": 0, "right": 0})
        fits, numbers, right = counts["fits"], counts["numbers"], counts["right"]
        rows.append(
            (
                f"`{word}`",
                escape(meaning),
                f"{fits:,}" if fits else "",
                f"{100 * numbers / fits:.0f} %" if fits else "",
                f"{100 * right / numbers:.3g} %" if numbers else "",
            )
        )
    return rows


def summary(item: tuple[str, dict[str, Any]]) -> tuple[str, ...]:
    """Return the cells of one row of the benchmark."""
    name, row = item
    shares = [row["bias"], row["scatter"], row["coverage"]]
    return (
        name.replace("_", " "),
        f"{row['fits']:,}",
        f"{row['ok']:,}",
        f"{row['wrong']:,}",
        *("" if share is None else f"{100 * share:.2f} %" for share in shares),
    )
