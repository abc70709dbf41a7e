"""A Python function of raw data, as an extractor that takes all steps at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors.base import BaseExtractor


class RawFunction(BaseExtractor):
    """The values that a function returns for the list of all steps.

    Parameters
    ----------
    function
        Takes the list of steps, and ``params`` by name; returns one value per step, or one number.
    source
        Kind of measurement.
    shape
        Of the result: ``("n_steps", 100)``; one number per step where it is None.
    params
        Keyword arguments of the function.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        source: str,
        shape: tuple[int | str, ...] | None,
        params: Mapping[str, Any] | None,
    ) -> None:
        super().__init__(params)
        self.function = function
        self.source = source
        self.name = str(getattr(function, "__qualname__", function))
        self._shape = shape or ("n_steps",)

    @property
    def output_shape(self) -> tuple[int | str, ...]:
        """Shape of the value, ``"n_steps"`` first."""
        return self._shape

    def extract(self, data: Any, params: Mapping[str, Any] | None = None) -> NDArray[np.float64]:
        """Return what the function says, a single number for every step."""
        value = np.asarray(self.function(data, **(params or {})))
        return np.full(len(data), value) if value.ndim == 0 else value
