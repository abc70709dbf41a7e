"""Pictures of one experiment, by the names and arguments that existing notebooks use."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from oectflow.errors import ConfigError
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.manager.computed import ComputedFeatures
from oectflow.pipeline.outputs.plots.axes import literal, need_matplotlib, new_axes, set_unit
from oectflow.pipeline.outputs.plots.transfer import plot_transfer, to_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Size = tuple[float, float]
TimeRange = tuple[float, float]
_SPANS = {"continuous": "continuous_time", "original": "original_time"}


class Pictures:
    """What can be drawn of one experiment.

    Parameters
    ----------
    open_data
        Returns the raw file, opened.
    features
        What was computed.
    """

    def __init__(self, open_data: Callable[[], Experiment], features: ComputedFeatures) -> None:
        self._open = open_data
        self._features = features

    def plot_transfer_single(
        self,
        step_index: int,
        log_scale: bool = False,
        figsize: Size | None = None,
        save_path: str | os.PathLike[str] | None = None,
    ) -> Figure:
        """Draw one transfer sweep; see :meth:`plot_transfer_multiple`."""
        return self.plot_transfer_multiple([step_index], log_scale, figsize, save_path)

    def plot_transfer_multiple(
        self,
        step_indices: Sequence[int],
        log_scale: bool = False,
        figsize: Size | None = None,
        save_path: str | os.PathLike[str] | None = None,
    ) -> Figure:
        """Draw some transfer sweeps.

        Parameters
        ----------
        step_indices
            Which; negative ones count from the end.
        log_scale
            Draw abs(Id) on a logarithmic scale, and nothing else.
        figsize
            In inches.
        save_path
            Write the picture there, too.

        Raises
        ------
        IndexError
            There is no such step.
        OectflowError
            There is no transfer step, or matplotlib is missing.
        """
        experiment = self._open()
        n_steps = experiment.n_steps("transfer")
        steps = [int(index) + n_steps * (index < 0) for index in step_indices]
        return _finished(_sweeps(experiment, log_scale, steps=steps), figsize, save_path)

    def plot_transfer_evolution(
        self,
        /,
        max_steps: int | None = None,
        log_scale: bool = False,
        figsize: Size | None = None,
        save_path: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Figure:
        """Draw how the transfer curve changes.

        Parameters
        ----------
        max_steps
            Draw the first so many steps.  None: ten steps, from the first to the last.
        log_scale, figsize, save_path
            As for :meth:`plot_transfer_multiple`.
        **options
            As for :func:`oectflow.plot_transfer`.
        """
        experiment = self._open()
        if max_steps is not None:
            options.setdefault("steps", range(min(max_steps, experiment.n_steps("transfer"))))
        return _finished(_sweeps(experiment, log_scale, **options), figsize, save_path)

    def plot_transient_single(
        self,
        step_index: int,
        time_range: TimeRange | None = None,
        time_range_type: Literal["continuous", "original"] = "continuous",
        dual_time_axis: bool = True,
        figsize: Size | None = None,
        save_path: str | os.PathLike[str] | None = None,
    ) -> Figure:
        """Draw one transient.

        Parameters
        ----------
        step_index
            Which.
        time_range
            First and last time that is drawn, in s.
        time_range_type
            On which clock: ``"continuous"``, which goes on from step to step, or ``"original"``,
            as measured.
        dual_time_axis
            Show the measured clock at the top, too.
        figsize, save_path
            As for :meth:`plot_transfer_multiple`.

        Raises
        ------
        IndexError
            There is no such step.
        ConfigError
            There is no such clock.
        """
        if time_range_type not in _SPANS:
            raise ConfigError(
                f"time_range_type={time_range_type!r}: expected {' or '.join(map(repr, _SPANS))}"
            )
        step = self._open().get_transient_step_measurement(step_index)
        ax = _draw_trace(step, time_range, _SPANS[time_range_type])
        ax.set_title(f"transient, step {step_index}", fontsize="medium")
        if dual_time_axis and len(step["original_time"]):
            shift = float(step["continuous_time"][0] - step["original_time"][0])
            clocks: Any = (lambda t: t - shift, lambda t: t + shift)
            top = ax.secondary_xaxis("top", functions=clocks)
            top.set_xlabel("time of the step")
            set_unit(top.xaxis, "s")
        return _finished(ax, figsize, save_path)

    def plot_transient_all(
        self,
        time_range: TimeRange | None = None,
        figsize: Size | None = None,
        save_path: str | os.PathLike[str] | None = None,
    ) -> Figure:
        """Draw all transients on the clock that goes on from step to step.

        Parameters
        ----------
        time_range, figsize, save_path
            As for :meth:`plot_transient_single`.

        Raises
        ------
        ConfigError
            There is no transient.
        """
        experiment = self._open()
        whole = experiment.get_transient_all_measurement()
        if whole is None:
            raise ConfigError(f"{experiment.experiment_id}: has no transient step")
        ax = _draw_trace(whole, time_range, "continuous_time")
        ax.set_title(f"{experiment.n_steps('transient')} transients", fontsize="medium")
        return _finished(ax, figsize, save_path)

    def plot_feature_trend(
        self,
        /,
        feature_name: str,
        data_type: str = "transfer",
        title: str | None = None,
        figsize: Size | None = None,
        **line: Any,
    ) -> Figure:
        """Draw a feature that was computed against the step.

        Parameters
        ----------
        feature_name, data_type
            As for ``get_features``.
        title, figsize
            By default the name of feature and experiment; in inches.
        **line
            As for ``matplotlib.axes.Axes.plot``.

        Raises
        ------
        UnknownFeature
            It has not been computed.
        """
        need_matplotlib()
        values = self._features.get_features([feature_name], data_type)[feature_name]
        ax = new_axes(None)
        ax.plot(np.arange(len(values)), values, **({"marker": "."} | line))
        ax.set(xlabel="step", ylabel=literal(feature_name))
        experiment_id = literal(self._features.entry.test_id)
        ax.set_title(title or f"{literal(feature_name)}, {experiment_id}", fontsize="medium")
        return _finished(ax, figsize, None)

    def create_transfer_animation(
        self,
        max_steps: int | None = None,
        interval: int = 200,
        save_path: str | os.PathLike[str] | None = None,
        figsize: Size | None = None,
        layout: Literal["dual"] = "dual",
    ) -> Path:
        """Make a film of the transfer curves, one picture per step.

        Parameters
        ----------
        max_steps
            Show about so many steps, from the first to the last; None shows all.
        interval
            Time of a picture, in ms.
        save_path
            ``.gif``, or ``.mp4``, which needs ffmpeg; by default ``<test id>_transfer.gif``.
        figsize
            Without effect: a film has the size that its axes need.
        layout
            ``"dual"``: Id, and abs(Id) on a logarithmic scale.

        Returns
        -------
        The film.

        Raises
        ------
        OectflowError
            It cannot be made; see :func:`oectflow.animate_transfer`.
        """
        del figsize
        path = save_path or f"{self._features.entry.test_id}_transfer.gif"
        return self._film(path, max_steps, max(1, round(1000 / interval)), layout)

    def create_transfer_video(
        self,
        output_path: str | os.PathLike[str],
        max_steps: int | None = None,
        fps: int = 10,
        figsize: Size | None = None,
        layout: Literal["dual"] = "dual",
        n_workers: int | None = None,
        verbose: bool = True,
    ) -> str:
        """Make such a film, and return its path.

        Parameters
        ----------
        output_path
            The film.
        max_steps, layout
            As for :meth:`create_transfer_animation`.
        fps
            Pictures per second.
        figsize, n_workers, verbose
            Without effect.
        """
        del figsize, n_workers, verbose
        return str(self._film(output_path, max_steps, fps, layout))

    def _film(
        self, path: str | os.PathLike[str], max_steps: int | None, fps: int, layout: str
    ) -> Path:
        from oectflow.pipeline.outputs.animate import animate_transfer

        if layout != "dual":
            raise ConfigError(f"layout={layout!r}: a film shows both scales, layout='dual'")
        experiment = self._open()
        n_steps = experiment.n_steps("transfer")
        every = 1 if max_steps is None else -(-n_steps // max(1, max_steps))
        (made,) = animate_transfer(experiment, path, fps=fps, every=every, progress=False)
        return made


def _draw_trace(trace: dict[str, Any], time_range: TimeRange | None, clock: str) -> Axes:
    need_matplotlib()
    time, current = trace["continuous_time"], trace["drain_current"]
    if time_range is not None:
        inside = (trace[clock] >= time_range[0]) & (trace[clock] <= time_range[1])
        time, current = time[inside], current[inside]
    ax = new_axes(None, width=8)
    ax.plot(time, current, linewidth=0.8)
    ax.set(xlabel="time", ylabel=r"drain current $I_\mathrm{D}$")
    set_unit(ax.xaxis, "s")
    set_unit(ax.yaxis, "A")
    return ax


def _sweeps(experiment: Experiment, log_scale: bool, **options: Any) -> Axes:
    """Draw transfer curves; on a logarithmic scale, abs(Id) and nothing else."""
    if not log_scale:
        return plot_transfer(experiment, **options)
    ax = plot_transfer(experiment, **({"right": None, "marks": False} | options))
    to_log(ax)
    return ax


def _finished(ax: Axes, figsize: Size | None, save_path: str | os.PathLike[str] | None) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    if figsize is not None:
        figure.set_size_inches(figsize)
    if save_path is not None:
        figure.savefig(save_path, dpi=200)
    return figure
