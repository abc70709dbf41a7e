"""Factors from the geometry of the channel, and their uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_LENGTHS = ("W", "L", "d")
#: Keys that an extractor needs of the sample.
GEOMETRY_KEYS = (*_LENGTHS, *(f"u_{name}" for name in _LENGTHS))
#: Powers of the lengths in L / (W d), and in 1 / (W L d).
SHEET = {"W": -1, "L": 1, "d": -1}
PER_VOLUME = {"W": -1, "L": -1, "d": -1}


def factor_of(sample: Mapping[str, Any], powers: Mapping[str, int]) -> tuple[float, float]:
    """Return the product of powers of the lengths, and its relative standard uncertainty.

    Parameters
    ----------
    sample
        Lengths in m, and their standard uncertainties.  The result is NaN if one is missing.
    powers
        Power of each length.
    """
    factor, share = 1.0, 0.0
    for name, power in powers.items():
        size = float(sample.get(name, np.nan))
        factor *= size**power
        share += (power * float(sample.get(f"u_{name}", np.nan)) / size) ** 2
    return factor, float(np.sqrt(share))


def error_of(powers: Mapping[str, int]) -> str:
    """Return the description of the uncertainty due to the geometry, for tables."""
    names = [f"u_{name}" for name in powers]
    return (
        f"standard uncertainty by {', '.join(names[:-1])} and {names[-1]}; NaN where one is unknown"
    )


def no_geometry(powers: Mapping[str, int]) -> dict[str, str]:
    """Return the status word of a sample that lacks a length, with its meaning."""
    names = list(powers)
    missing = f"{', '.join(names[:-1])} or {names[-1]}"
    return {"no_geometry": f"the sample lacks {missing}; give a table of samples"}
