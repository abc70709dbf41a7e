"""Problems of results in words; every output that shows problems uses this module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from oectflow.pipeline.outputs.sink import Problem

#: Words of values with which nothing is wrong.
GOOD = ("ok", "absent")
#: Experiments that are named of each feature and word, and lines about features and words.
_WORST = 3
_MOST_LINES = 10

#: How a result stands: every value is good; some carry a status word; an extractor raised.
Outcome = Literal["done", "flagged", "failed"]


@dataclass(frozen=True)
class Flag:
    """How many values of a feature of one experiment carry a status word, and what it means.

    ``of`` counts the values that exist, those that are ``absent`` are none.
    """

    feature: str
    word: str
    n: int
    of: int
    meaning: str


@dataclass(frozen=True)
class Trouble:
    """How many values of a feature carry a status word, over several experiments.

    Attributes
    ----------
    feature, word, meaning
        What is wrong with which feature.
    n, of
        Number of values with this word, and of all in these experiments.
    experiments
        Id and number of values of every experiment that has some, the worst first.
    """

    feature: str
    word: str
    meaning: str
    n: int
    of: int
    experiments: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        worst = ", ".join(f"{name} {n:,}" for name, n in self.experiments[:_WORST])
        more = f" and {n:,} more" if (n := len(self.experiments) - _WORST) > 0 else ""
        meaning = f"{self.meaning}; " if self.meaning else ""
        return (
            f"{self.feature}: {self.word} {self.n:,} of {self.of:,} values\n"
            f"    {meaning}in {worst}{more}"
        )


def flags_of(
    features: Mapping[str, Mapping[str, Any]], words: Mapping[str, Mapping[str, str]]
) -> tuple[Flag, ...]:
    """Return every status word of a result beside ``ok`` and ``absent``.

    Parameters
    ----------
    features
        By name, with the ``counts`` of their words, as the metadata of a result have them.
    words
        What the words of a status variable (``tau_status``) mean.
    """
    flags = []
    for name, about in features.items():
        meanings = words.get(f"{name}_status", {})
        # What does not exist is not counted: it only fills the rows of shorter steps.
        total = sum(about["counts"].values()) - about["counts"].get("absent", 0)
        flags += [
            Flag(name, word, n, total, meanings.get(word, ""))
            for word, n in about["counts"].items()
            if word not in GOOD and n
        ]
    return tuple(flags)


def flags_of_result(metadata: Mapping[str, Any]) -> tuple[Flag, ...]:
    """Return the same from the metadata of a result file."""
    words = {name: about["statuses"] for name, about in metadata["variables"].items()}
    return flags_of(metadata["features"], words)


def outcome_of(flags: Iterable[Flag]) -> Outcome:
    """Return what the status words of a result amount to."""
    found = {flag.word for flag in flags}
    if "error" in found:
        return "failed"
    return "flagged" if found else "done"


def sum_up(flags: Iterable[tuple[str, Iterable[Flag]]]) -> list[Trouble]:
    """Sum flags up by feature and word, the most frequent first.

    Parameters
    ----------
    flags
        Pairs of the id of an experiment and its flags.

    >>> edge = Flag("gm_max", "edge", 2, 8, "at the edge")
    >>> print(*sum_up([("a", [edge]), ("b", [])]))
    gm_max: edge 2 of 8 values
        at the edge; in a 2
    """
    found: dict[tuple[str, str], list[tuple[str, Flag]]] = {}
    for name, some in flags:
        for flag in some:
            found.setdefault((flag.feature, flag.word), []).append((name, flag))
    troubles = []
    for (feature, word), those in found.items():
        ranked = sorted(those, key=lambda one: (-one[1].n, one[0]))
        troubles.append(
            Trouble(
                feature,
                word,
                ranked[0][1].meaning,
                sum(flag.n for _, flag in those),
                sum(flag.of for _, flag in those),
                tuple((name, flag.n) for name, flag in ranked),
            )
        )
    return sorted(troubles, key=lambda one: (-one.n, one.feature, one.word))


def lines(troubles: Sequence[Trouble]) -> list[str]:
    """Return what a summary in text says about them."""
    more = len(troubles) - _MOST_LINES
    rest = [f"… and {more} more features and words (problems_frame has all)"] if more > 0 else []
    return [*map(str, troubles[:_MOST_LINES]), *rest]


def in_words(flags: Sequence[Flag]) -> str:
    """Return the flags of one experiment in one line.

    >>> in_words([Flag("gm", "edge", 2, 8, ""), Flag("Von", "noise", 1, 8, "")])
    'gm: edge 2 of 8; Von: noise 1 of 8'
    """
    return "; ".join(f"{flag.feature}: {flag.word} {flag.n:,} of {flag.of:,}" for flag in flags)


def frame(
    experiments: Iterable[tuple[str, Sequence[Problem], Iterable[Flag], str]],
) -> pd.DataFrame:
    """Return everything that is wrong as a table.

    Parameters
    ----------
    experiments
        Of each its id, what raised in which step, its flags, and why it has no result (``""``).

    Returns
    -------
    A row for every step in which a feature raised; one for every feature and status word of an
    experiment, with the number ``n`` of values and no step; and one for every experiment without a
    result.
    """
    import pandas as pd

    none: dict[str, Any] = {
        "step": None, "source": "", "feature": "", "status": "failed", "error_type": "",
        "message": "", "n": 1,
    }  # fmt: skip
    rows = []
    for name, problems, flags, reason in experiments:
        own = {"experiment_id": name} | none
        rows += [own | vars(problem) for problem in problems]
        rows += [
            own | {"feature": f.feature, "status": f.word, "message": f.meaning, "n": f.n}
            for f in flags
            if f.word != "error"
        ]
        rows += [own | {"message": reason, "n": 0}] if reason else []
    found = pd.DataFrame(rows, columns=["experiment_id", *none])
    return found.astype({"step": "Int64", "n": "int64"})
