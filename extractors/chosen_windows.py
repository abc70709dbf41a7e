"""Windows that were chosen by hand, on their way from the marks to the fit.

They travel with the properties of a sample, because they belong to one experiment, and a feature
that uses them must be computed again when they change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Their key in a sample.  It has a space, which no column of a table of samples can have.
CHOSEN_WINDOWS = "chosen windows"
PHASES = ("on", "off")


def with_windows(sample: Mapping[str, Any], windows: Sequence[Sequence[Any]]) -> Mapping[str, Any]:
    """Return a sample, with the chosen windows if there are any."""
    return {**sample, CHOSEN_WINDOWS: windows} if windows else sample


def chosen_windows(sample: Mapping[str, Any], first_step: int, n_steps: int) -> NDArray[np.float64]:
    """Return the chosen windows of some consecutive steps.

    Parameters
    ----------
    sample
        Under :data:`CHOSEN_WINDOWS` it has, for each window, the step, the cycle, ``"on"`` or
        ``"off"``, and begin and end in s from the first sample of the step.
    first_step, n_steps
        First step, and number of steps.

    Returns
    -------
    Step from ``first_step``, cycle, 0 (on) or 1 (off), begin and end.  Shape (K, 5).
    """
    windows: Sequence[Sequence[Any]] = sample.get(CHOSEN_WINDOWS, ())
    rows = [
        (step - first_step, cycle, PHASES.index(phase), begin, end)
        for step, cycle, phase, begin, end in windows
        if first_step <= step < first_step + n_steps
    ]
    return np.array(rows, np.float64).reshape(-1, 5)


def sample_of_step(sample: Mapping[str, Any], step: int) -> Mapping[str, Any]:
    """Return the sample for a step that is computed alone, as if it were the first one."""
    if CHOSEN_WINDOWS not in sample:
        return sample
    own = [[0, *rest] for number, *rest in sample[CHOSEN_WINDOWS] if number == step]
    return {**sample, CHOSEN_WINDOWS: own}
