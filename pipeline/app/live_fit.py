"""The fit of a window that is dragged by hand, by the extractor that would fit it in a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from oectflow.extractors import get_extractor
from oectflow.extractors.chosen_windows import with_windows
from oectflow.extractors.tau import TauOnOff, TauParams
from oectflow.pipeline.app.one_result import OneResult
from oectflow.pipeline.outputs.plots.transient import Fit, fit_variables, fits_of


def can_be_dragged(result: OneResult, feature: str) -> bool:
    """Whether the windows of a feature can be fitted anew: those of one exponential."""
    about = result.metadata["features"].get(feature, {})
    return bool(about.get("extractor") == TauOnOff.name)


class LiveFit:
    """Fits windows of one step of one experiment, as the next run does where they are kept.

    Parameters
    ----------
    result, feature
        Whose parameters are taken.
    data
        The samples of the step, as an experiment has them.
    """

    def __init__(self, result: OneResult, feature: str, data: Mapping[str, Any]) -> None:
        given = result.metadata["features"][feature]["params"]
        params = {name: value for name, value in given.items() if name in TauParams.model_fields}
        self._extractor = get_extractor(TauOnOff.name, params)
        self._words = np.array(list(self._extractor.variables["status"].statuses))
        self._data = dict(data)

    def fit(self, cycle: int, phase: str, begin: float, end: float) -> Fit:
        """Fit one window.

        Parameters
        ----------
        cycle, phase
            Which one, ``"on"`` or ``"off"``.
        begin, end
            Of the window, in s from the step's first sample.

        Returns
        -------
        The fit with the window that was fitted, which begins and ends on samples.
        """
        sample = with_windows(self._data.get("sample", {}), [[0, cycle, phase, begin, end]])
        columns = self._extractor.extract_step({**self._data, "sample": sample})
        columns["status"] = self._words[columns["status"]]
        columns["tau"] = columns.pop("value")
        arrays = {
            name if name == "tau" else f"tau_{name}": array for name, array in columns.items()
        }
        wanted = fit_variables("tau")
        arrays = {name: array for name, array in arrays.items() if name in wanted}
        if not cycle < len(arrays["tau"]):
            return Fit(cycle, phase, "absent", begin, end - begin, *[np.nan] * 3)
        fits = fits_of(arrays, "tau", ("on", "off"), [cycle])
        return next(fit for fit in fits if fit.phase == phase)
