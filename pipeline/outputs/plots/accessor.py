"""``results.oect.plot``: the pictures as methods of results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from oectflow.pipeline.outputs.plots.evolution import plot_bands, plot_degradation, plot_feature
from oectflow.pipeline.outputs.plots.overview import plot_chip
from oectflow.pipeline.outputs.plots.transient import plot_transient

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from oectflow.pipeline.outputs.plots.transfer import Measured


class Plots:
    """Pictures of these results; each method takes the arguments of the function of its name.

    Parameters
    ----------
    results
        A Dataset from :func:`oectflow.open_results`, or a part of it.

    Examples
    --------
    >>> import oectflow as of
    >>> results = of.open_results("features/")
    >>> axes = results.oect.plot.feature("tau", phase="on")
    >>> axes = results.isel(experiment=[0]).oect.plot.degradation("tau", phase="off")
    """

    def __init__(self, results: xr.Dataset) -> None:
        self._results = results

    def feature(self, feature: str, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw a feature against step or cycle: :func:`oectflow.plot_feature`."""
        return plot_feature(self._results, feature, ax, **options)

    def degradation(self, feature: str, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw a map of step and cycle: :func:`oectflow.plot_degradation`."""
        return plot_degradation(self._results, feature, ax, **options)

    def chip(self, feature: str, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw a map of devices: :func:`oectflow.plot_chip`."""
        return plot_chip(self._results, feature, ax, **options)

    def bands(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw wavelet bands against the step: :func:`oectflow.plot_bands`."""
        return plot_bands(self._results, ax, **options)

    def transient(
        self, experiment: Measured, step: int, ax: Axes | None = None, **options: Any
    ) -> Axes:
        """Draw a transient with its fits: :func:`oectflow.plot_transient`."""
        return plot_transient(experiment, self._results, step, ax, **options)


@xr.register_dataset_accessor("oect")  # type: ignore[no-untyped-call]
class Oect:
    """The attributes that oectflow adds to a Dataset of results.

    Attributes
    ----------
    plot
        :class:`Plots` of the results.
    """

    def __init__(self, results: xr.Dataset) -> None:
        self.plot = Plots(results)
