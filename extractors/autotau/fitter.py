"""Fit the time constants of two given windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oectflow.errors import ParameterError
from oectflow.extractors.autotau import plots
from oectflow.extractors.autotau.fits import (
    MODELS,
    OFF,
    ON,
    Fits,
    covariance,
    fit_windows,
    is_silent,
    resample,
    resampled_points,
)
from oectflow.extractors.autotau.models import (
    compute_adjusted_r_squared,
    compute_r_squared,
    exp_decay,
    exp_rise,
    normalize_signal,
)
from oectflow.extractors.autotau.trace import Trace, logger

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Result = tuple[NDArray[np.float64], NDArray[np.float64], float, float]


class TauFitter:
    """Fit ``A (1 - exp(-t / tau)) + C`` and ``A exp(-t / tau) + C`` to two windows of a signal.

    Parameters
    ----------
    time, signal
        Times, increasing, in s, and samples in any unit.  Shape (N,).
    t_on_idx, t_off_idx
        First and last time of the window, both inside it.
    normalize
        Report A and C of a window that was brought to the range 0 to 1; changes nothing else.
    language
        ``"en"`` or ``"cn"``: labels of the plots.

    Attributes
    ----------
    tau_on_popt, tau_off_popt
        A, tau (s), C; None before the fit, NaN where it has no answer.
    tau_on_pcov, tau_off_pcov
        Their covariance, shape (3, 3), on the points that were fitted.
    tau_on_r_squared, tau_off_r_squared, tau_on_r_squared_adj, tau_off_r_squared_adj
        R2 on the raw samples, and adjusted with 3 parameters.
    tau_on_status, tau_off_status
        ``"ok"`` or why there is no answer; None before the fit.
    """

    exp_rise = staticmethod(exp_rise)
    exp_decay = staticmethod(exp_decay)
    normalize_signal = staticmethod(normalize_signal)

    def __init__(
        self,
        time: ArrayLike,
        signal: ArrayLike,
        t_on_idx: Sequence[float] | None = None,
        t_off_idx: Sequence[float] | None = None,
        normalize: bool = False,
        language: str = "en",
    ) -> None:
        self._setup(Trace.of(time, signal), t_on_idx, t_off_idx, normalize, language)

    @classmethod
    def on_trace(
        cls,
        trace: Trace,
        t_on_idx: Sequence[float] | None,
        t_off_idx: Sequence[float] | None,
        normalize: bool,
        language: str,
    ) -> TauFitter:
        """Return a fitter that shares a trace which is already checked."""
        fitter = cls.__new__(cls)
        fitter._setup(trace, t_on_idx, t_off_idx, normalize, language)
        return fitter

    def _setup(
        self,
        trace: Trace,
        t_on_idx: Sequence[float] | None,
        t_off_idx: Sequence[float] | None,
        normalize: bool,
        language: str,
    ) -> None:
        self._trace = trace
        self.time = trace.time
        self.signal = trace.signal
        self.t_on_idx = t_on_idx
        self.t_off_idx = t_off_idx
        self.normalize = normalize
        self.set_language(language)
        self.tau_on_popt: NDArray[np.float64] | None = None
        self.tau_off_popt: NDArray[np.float64] | None = None
        self.tau_on_r_squared: float | None = None
        self.tau_off_r_squared: float | None = None
        self.tau_on_r_squared_adj: float | None = None
        self.tau_off_r_squared_adj: float | None = None
        self.tau_on_status: str | None = None
        self.tau_off_status: str | None = None
        self._fitted: dict[str, tuple[int, int, int]] = {}
        self._pcov: dict[str, NDArray[np.float64]] = {}

    def set_language(self, language: str) -> None:
        """Choose the language of the plots, ``"en"`` or ``"cn"``."""
        self.text = plots.labels(language)
        self.language = language

    def fit_tau_on(
        self,
        time: ArrayLike | None = None,
        signal: ArrayLike | None = None,
        interp: bool = True,
        points_after_interp: int = 100,
    ) -> Result:
        """Fit the rise.

        Parameters
        ----------
        time, signal
            Fit these samples instead of the window; nothing is stored then.
        interp, points_after_interp
            Resample the window linearly to so many points before the fit.

        Returns
        -------
        popt (A, tau, C), its covariance, R2, adjusted R2; NaN where the fit has no answer, and
        ``tau_on_status`` says why.
        """
        return self._fit(ON, self.t_on_idx, time, signal, interp, points_after_interp)

    def fit_tau_off(
        self,
        time: ArrayLike | None = None,
        signal: ArrayLike | None = None,
        interp: bool = True,
        points_after_interp: int = 100,
    ) -> Result:
        """Fit the decay; as :meth:`fit_tau_on`."""
        return self._fit(OFF, self.t_off_idx, time, signal, interp, points_after_interp)

    def _fit(
        self,
        phase: str,
        window: Sequence[float] | None,
        time: ArrayLike | None,
        signal: ArrayLike | None,
        interp: bool,
        points_after_interp: int,
    ) -> Result:
        points = resampled_points(interp, points_after_interp)
        if time is not None and signal is not None:
            other = self.on_trace(Trace.of(time, signal), None, None, self.normalize, self.language)
            return other._fit_span(phase, 0, len(other.time), points)
        if time is not None or signal is not None:
            raise ParameterError(f"fit_tau_{phase}: give both time and signal, or neither")
        if window is None:
            raise ParameterError(
                f"fit_tau_{phase}: no window; set t_{phase}_idx=[first time, last time]"
            )
        first, n = self._trace.span(window[0], window[1])
        return self._fit_span(phase, first, n, points)

    def _fit_span(self, phase: str, first: int, n: int, points: int) -> Result:
        fits = fit_windows(self._trace, np.array([first]), n, phase, points)
        self.store(phase, fits, 0, (first, n, points))
        popt: NDArray[np.float64] = getattr(self, f"tau_{phase}_popt")
        return popt, self._covariance(phase), float(fits.r_squared[0]), float(fits.r_squared_adj[0])

    def store(self, phase: str, fits: Fits, i: int, fitted: tuple[int, int, int]) -> None:
        """Take over fit ``i`` of many.

        Parameters
        ----------
        phase
            ``"on"`` or ``"off"``.
        fits, i
            The fits, and which of them.
        fitted
            First sample and number of samples of the window, points that it was resampled to.
        """
        popt = fits.popt[i].copy()
        if self.normalize and np.isfinite(popt).all():
            low, span = self._range(fitted)
            popt = np.array([popt[0] / span, popt[1], (popt[2] - low) / span])
        self._fitted[phase] = fitted
        self._pcov.pop(phase, None)
        setattr(self, f"tau_{phase}_popt", popt)
        setattr(self, f"tau_{phase}_r_squared", float(fits.r_squared[i]))
        setattr(self, f"tau_{phase}_r_squared_adj", float(fits.r_squared_adj[i]))
        status = str(fits.status[i])
        if status in ("noise", "opposite") and is_silent(self._trace, *fitted[:2]):
            status = "no_response"
        setattr(self, f"tau_{phase}_status", status)
        if status != "ok":
            logger.debug("tau_%s of samples %d+%d: %s", phase, *fitted[:2], status)

    def _range(self, fitted: tuple[int, int, int]) -> tuple[float, float]:
        window = self.signal[fitted[0] : fitted[0] + fitted[1]]
        return float(window.min()), float(np.ptp(window))

    def window(self, phase: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return times and samples of the window that was fitted, as the fit saw them."""
        first, n, _ = self._fitted[phase]
        y = self.signal[first : first + n]
        if self.normalize:
            y = normalize_signal(y)
        return self.time[first : first + n], y

    def _covariance(self, phase: str) -> NDArray[np.float64]:
        if phase not in self._pcov:
            popt = getattr(self, f"tau_{phase}_popt")
            if not np.isfinite(popt).all():
                return np.full((3, 3), np.nan)
            time, y = self.window(phase)
            t = np.asarray(time - time[0])
            points = self._fitted[phase][2]
            if points:
                dense, step = resample(y[np.newaxis], t[np.newaxis], points)
                t, y = np.asarray(np.arange(points) * step), dense[0]
            self._pcov[phase] = covariance(t, y, popt, phase)
        return self._pcov[phase]

    @property
    def tau_on_pcov(self) -> NDArray[np.float64] | None:
        """Covariance of (A, tau, C) of the rise; None before the fit."""
        return self._covariance(ON) if ON in self._fitted else None

    @property
    def tau_off_pcov(self) -> NDArray[np.float64] | None:
        """Covariance of (A, tau, C) of the decay; None before the fit."""
        return self._covariance(OFF) if OFF in self._fitted else None

    def get_tau_on(self) -> float | None:
        """Return tau of the rise in s; None before the fit, NaN where it has no answer."""
        return self._tau(ON)

    def get_tau_off(self) -> float | None:
        """Return tau of the decay in s; None before the fit, NaN where it has no answer."""
        return self._tau(OFF)

    def get_r_squared_on(self) -> float | None:
        """Return R2 of the rise; None before the fit."""
        return self.tau_on_r_squared

    def get_r_squared_off(self) -> float | None:
        """Return R2 of the decay; None before the fit."""
        return self.tau_off_r_squared

    def _tau(self, phase: str) -> float | None:
        popt = getattr(self, f"tau_{phase}_popt")
        if popt is None:
            logger.warning("no tau_%s yet: call fit_tau_%s() first", phase, phase)
            return None
        return float(popt[1])

    def plot_tau_on(self, figsize: tuple[float, float] = (6, 4)) -> Axes | None:
        """Draw the rise and its fit into new axes, and return them; None before the fit."""
        return self._plot(ON, figsize)

    def plot_tau_off(self, figsize: tuple[float, float] = (6, 4)) -> Axes | None:
        """Draw the decay and its fit into new axes, and return them; None before the fit."""
        return self._plot(OFF, figsize)

    def _plot(self, phase: str, figsize: tuple[float, float]) -> Axes | None:
        if phase not in self._fitted:
            logger.warning("nothing to plot: call fit_tau_%s() first", phase)
            return None
        ax: Axes = plots.new_axes(figsize)
        return plots.draw_fit(ax, self, phase, self.text[f"{phase}_process"])

    @staticmethod
    def compute_r_squared(
        x_data: ArrayLike, y_data: ArrayLike, popt: Sequence[float], func: Any
    ) -> tuple[float, float]:
        """Return R2 and adjusted R2 of ``func(x, *popt)``; NaN where they are not defined."""
        y_fit = func(np.asarray(x_data, np.float64), *popt)
        return (
            compute_r_squared(y_data, y_fit),
            compute_adjusted_r_squared(y_data, y_fit, len(popt)),
        )

    def curve(self, phase: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return 200 points of the fitted curve over its window."""
        time, _ = self.window(phase)
        t = np.linspace(0.0, time[-1] - time[0], 200)
        return time[0] + t, MODELS[phase](t, *getattr(self, f"tau_{phase}_popt"))
