"""Wavelet features of a batch of time series, and texts that tell them to a language model."""

from __future__ import annotations

import sys
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import ParameterError, did_you_mean
from oectflow.extractors.cache import CacheStats, ContentCache
from oectflow.extractors.dwt import (
    MODES,
    OUTCOMES,
    Detrend,
    Level,
    Mode,
    Precision,
    band_names,
    filters,
    wavelet_features,
)

Detail = Literal["minimal", "balanced", "detailed"]
DETAILS: tuple[Detail, ...] = ("minimal", "balanced", "detailed")

#: Features by name, each with its unit relative to that of the series.
FEATURES = {
    "energy": "energy per band: sum of the squared coefficients",
    "relative_energy": "its share of all bands",
    "relative_detail_energy": "its share of the detail bands; NaN for cA",
    "std": "standard deviation of a band's coefficients",
    "mean_abs": "mean magnitude of a band's coefficients",
    "max_abs": "largest magnitude of a band's coefficients",
    "entropy": "Shannon entropy of relative_energy, in nats",
    "detail_entropy": "Shannon entropy of relative_detail_energy, in nats",
    "trend": "slope of the series per sample, from the cA that no padding touches",
    "snr": "20 log10(std(cA) / std(cD1)), in dB",
    "noise_sigma": "standard deviation of white noise: median |cD1| / 0.6745",
    "level": "number of levels computed; less than asked for where the series is short",
    "outcome": f"how to read it: index into {OUTCOMES}",
}
#: How many lags a text names at most.
N_LAGS = 5


class DWTPromptGenerator:
    """Wavelet features and texts, one of each per series.

    A series has the same features and the same text in whatever batch, to the last bit.

    Parameters
    ----------
    wavelet
        Discrete wavelet of PyWavelets.
    level
        Number of levels; ``"adaptive"``: 2 below 200 samples, 3 below 500, else 4.  Series that are
        too short get the largest number that fits.
    detail
        Length of the texts: ``"minimal"`` (range and trend), ``"balanced"`` (also noise, where the
        energy is, strongest lags) or ``"detailed"`` (also every band).
    mode, detrend, dtype
        As in :func:`oectflow.extractors.dwt.wavelet_features`.
    cache_size
        Number of series whose features are kept, and of those whose texts are; 0 keeps none.
        Results are looked up only while that is faster than computing them, see
        :class:`.ContentCache`.
    adaptive_level
        Another word for ``level="adaptive"``.

    Raises
    ------
    ParameterError
        No such wavelet, level, detail, mode, detrend or dtype.

    Examples
    --------
    >>> import numpy as np
    >>> generator = DWTPromptGenerator(level=2, detail="minimal")
    >>> x = np.sin(np.arange(3 * 64) / 5.0).reshape(1, 3, 64)
    >>> generator.features(x)["energy"].shape
    (1, 3, 3)
    >>> len(generator.prompts(x, pred_len=8))
    3
    """

    def __init__(
        self,
        wavelet: str = "db4",
        level: Level = 3,
        detail: Detail = "balanced",
        *,
        mode: Mode = "smooth",
        detrend: Detrend = "mean",
        dtype: Precision = "float64",
        cache_size: int = 8192,
        adaptive_level: bool = False,
    ) -> None:
        level = "adaptive" if adaptive_level else level
        for name, given, known in (
            ("detail", detail, DETAILS),
            ("mode", mode, MODES),
            ("detrend", detrend, ("mean", "none")),
            ("dtype", dtype, ("float64", "float32")),
        ):
            if given not in known:
                raise ParameterError(f"{name}={given!r}{did_you_mean(str(given), known)}")
        if level != "adaptive" and level not in range(1, 21):
            raise ParameterError(f"level={level!r}: expected 1 to 20, or 'adaptive'")
        if cache_size < 0:
            raise ParameterError(f"cache_size={cache_size}: must not be negative; 0 keeps nothing")
        filters(wavelet, dtype)
        self.wavelet, self.level, self.detail = wavelet, level, detail
        self.mode, self.detrend, self.dtype = mode, detrend, dtype
        self.bands = band_names(level)
        self._features: ContentCache[dict[str, NDArray[Any]]] = ContentCache(cache_size)
        self._texts: ContentCache[str] = ContentCache(cache_size)

    @property
    def _context(self) -> tuple[Any, ...]:
        return self.wavelet, self.level, self.mode, self.detrend, self.dtype

    @property
    def adaptive_level(self) -> bool:
        """Whether the level goes by the length of the series."""
        return self.level == "adaptive"

    @property
    def cache_hits(self) -> int:
        """Lookups that the cache served, of features and texts together."""
        return int(self.cache_stats()["hits"])

    @property
    def cache_misses(self) -> int:
        """Lookups that the cache did not serve."""
        return int(self.cache_stats()["misses"])

    def forward(self, x: Any) -> list[dict[str, NDArray[Any]]]:
        """Compute the features of a batch, one dict for each of its entries.

        Parameters
        ----------
        x
            As for :meth:`features`: shape (batch, channels, time) or (batch, time).

        Returns
        -------
        As many dicts as the batch has entries, with the arrays of :meth:`features` of that entry.

        Raises
        ------
        ParameterError
            As for :meth:`features`; or a single series, which is no batch.
        """
        found = self.features(x)
        if found["trend"].ndim == 0:
            raise ParameterError("one series is no batch; give x[None], or call features(x)")
        return [
            {name: values[b] for name, values in found.items()} for b in range(len(found["trend"]))
        ]

    def __call__(self, x: Any) -> list[dict[str, NDArray[Any]]]:
        """Return :meth:`forward` of ``x``."""
        return self.forward(x)

    def features(self, x: Any) -> dict[str, NDArray[Any]]:
        """Compute the features of every series.

        Parameters
        ----------
        x
            Array, torch tensor, or xarray object with a dimension ``time``: shape (batch, channels,
            time), (batch, time) or (time,).

        Returns
        -------
        The arrays of :data:`FEATURES`; per band (names in ``bands``) of the shape of ``x`` with
        bands instead of time, else without time.  The batch comes first.

        Raises
        ------
        ParameterError
            ``x`` has another number of dimensions, no sample, no numbers, or no ``time``.
        """
        series = as_series(x)
        flat = series.reshape(-1, series.shape[-1])
        found = self._features.fetch(
            self._context,
            [flat],
            lambda _: [self._compute(flat)],
            weight=max(len(flat), 1),
            size=lambda arrays: sum(array.nbytes for array in arrays.values()),
        )[0]
        lead = series.shape[:-1]
        return {
            name: value.reshape((*lead, *value.shape[1:])).copy() for name, value in found.items()
        }

    def _compute(self, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        begins = np.arange(len(rows), dtype=np.int64) * rows.shape[1]
        found = wavelet_features(
            rows.reshape(-1),
            begins,
            begins + rows.shape[1],
            wavelet=self.wavelet,
            level=self.level,
            mode=self.mode,
            detrend=self.detrend,
            dtype=self.dtype,
        )
        return {name: getattr(found, name) for name in FEATURES}

    def prompts(
        self,
        x: Any,
        *,
        description: str = "",
        seq_len: int | None = None,
        pred_len: int | None = None,
    ) -> list[str]:
        """Write one text per series.

        Parameters
        ----------
        x
            As in :meth:`features`.
        description
            What the data are, the same for all series.
        seq_len
            Number of known samples that the text names; None takes the length of the series.
        pred_len
            Number of samples to forecast; None asks for no forecast.

        Returns
        -------
        batch * channels texts, the channels of the first member of the batch first.

        Raises
        ------
        ParameterError
            As in :meth:`features`.
        """
        series = as_series(x)
        rows = series.reshape(-1, series.shape[-1])
        steps = rows.shape[1] if seq_len is None else seq_len
        head = [f"Dataset: {description.strip()}"] if description.strip() else []
        if pred_len is not None:
            head.append(f"Task: forecast the next {pred_len} steps from the previous {steps}.")

        def write(indices: list[int]) -> list[str]:
            chosen = rows if len(indices) == len(rows) else rows[indices]
            features = self._compute(chosen)
            return [
                "\n".join([*head, *self._describe(chosen[i], i, features)])
                for i in range(len(chosen))
            ]

        context = (*self._context, self.detail, description, steps, pred_len)
        return self._texts.fetch(context, list(rows), write)

    def _describe(
        self,
        row: NDArray[Any],
        i: int,
        features: dict[str, NDArray[Any]],
    ) -> list[str]:
        """Return the lines about one series."""
        outcome = OUTCOMES[features["outcome"][i]]
        if outcome == "nan":
            return ["Series: some samples are not finite numbers; it is not described."]
        level = int(features["level"][i])
        lines = [
            f"Series: {row.size} samples, minimum {row.min():.4g}, maximum {row.max():.4g}, "
            f"median {np.median(row):.4g}."
        ]
        if outcome == "flat":
            return [*lines, "Trend: none, the series is constant."]
        lines.append(_trend_text(float(features["trend"][i]), float(np.ptp(row)), row.size))
        if self.detail == "minimal":
            return lines
        if level == 0:
            lines.append(f"Bands: the series is too short for the wavelet {self.wavelet}.")
        else:
            lines += self._band_lines(features, i, level)
        lags = top_lags(row)
        if lags.size:
            lines.append(f"Lags at which it resembles itself: {', '.join(map(str, lags))}.")
        return lines

    def _band_lines(self, features: dict[str, NDArray[Any]], i: int, level: int) -> list[str]:
        snr = float(features["snr"][i])
        entropy = float(features["entropy"][i])
        shares = features["relative_energy"][i]
        strongest = int(np.nanargmax(shares))
        lines = [
            f"Noise: standard deviation {features['noise_sigma'][i]:.3g}, slow over fast changes "
            f"{snr:.1f} dB.",
            f"Bands: {level} levels of {self.wavelet}, {100 * shares[strongest]:.1f} % of the "
            f"energy in {self.bands[strongest]}, entropy {entropy:.3f} of at most "
            f"{np.log(level + 1):.3f}.",
        ]
        if self.detail == "detailed":
            for b, name in enumerate(self.bands):
                if not np.isnan(shares[b]):
                    lines.append(
                        f"{name}{_scale_text(name, level)}: {100 * shares[b]:.3g} % of the energy, "
                        f"std {features['std'][i, b]:.3g}, mean magnitude "
                        f"{features['mean_abs'][i, b]:.3g}, largest "
                        f"{features['max_abs'][i, b]:.3g}."
                    )
        return lines

    def cache_stats(self) -> dict[str, Any]:
        """Return what the cache did.

        Returns
        -------
        ``hits``, ``misses``, ``hit_rate``, ``bytes`` and ``seconds_saved`` of both caches together;
        and under ``features`` (one lookup per call) and ``prompts`` (one per series) the
        :class:`.CacheStats` of each.
        """
        parts: dict[str, CacheStats] = {
            "features": self._features.stats(),
            "prompts": self._texts.stats(),
        }
        hits = sum(part.hits for part in parts.values())
        misses = sum(part.misses for part in parts.values())
        return {
            "hits": hits,
            "misses": misses,
            "hit_rate": hits / max(hits + misses, 1),
            "bytes": sum(part.bytes for part in parts.values()),
            "seconds_saved": sum(part.seconds_saved for part in parts.values()),
            **parts,
        }


def _trend_text(slope: float, spread: float, n: int) -> str:
    if np.isnan(slope):
        return "Trend: unknown, the series is too short."
    share = slope * (n - 1) / spread
    # A straight line has the share 1; 0.1 is what is left of a full swing that comes back.
    if abs(share) < 0.1:
        return "Trend: none."
    word = "rising" if share > 0 else "falling"
    return f"Trend: {word}, {slope:.3g} per sample, {100 * abs(share):.0f} % of the range in all."


def _scale_text(name: str, level: int) -> str:
    if name == "cA":
        return f" (periods above {2 ** (level + 1)} samples)"
    j = int(name[2:])
    return f" (periods of {2**j} to {2 ** (j + 1)} samples)"


def top_lags(row: NDArray[Any]) -> NDArray[np.int64]:
    """Return the lags of the highest peaks of the autocorrelation, highest first.

    Only peaks count, since the largest values of any smooth series are at the lags 1, 2, 3, ...

    Parameters
    ----------
    row
        One series.  Shape (n,).

    Returns
    -------
    Lags between 1 and n / 2 with positive autocorrelation.  Shape (at most N_LAGS,).
    """
    n = row.size
    # Zeros behind the series keep its end from meeting its begin.
    spectrum = np.fft.rfft(row.astype(np.float64) - row.mean(dtype=np.float64), 2 * n)
    c = np.fft.irfft(np.abs(spectrum) ** 2, 2 * n)[: n // 2 + 2]
    inner = c[1:-1]
    peaks = 1 + np.flatnonzero((inner > c[:-2]) & (inner >= c[2:]) & (inner > 0))
    found: NDArray[np.int64] = peaks[np.argsort(-c[peaks], kind="stable")[:N_LAGS]]
    return found


def as_series(x: Any) -> NDArray[Any]:
    """Return series as a contiguous array with the time last, float32 where they are, else float64.

    Parameters
    ----------
    x
        Array, torch tensor, or xarray object with a dimension ``time``.

    Raises
    ------
    ParameterError
        See :meth:`DWTPromptGenerator.features`.
    """
    # Whoever has such an object has imported its library; nobody else has to.
    torch, xr = sys.modules.get("torch"), sys.modules.get("xarray")
    if torch is not None and isinstance(x, torch.Tensor):
        tensor = x.detach().cpu()
        # NumPy has no bfloat16.
        x = (tensor if tensor.dtype == torch.float32 else tensor.to(torch.float64)).numpy()
    elif xr is not None and isinstance(x, xr.DataArray | xr.Dataset):
        if "time" not in x.dims:
            raise ParameterError(
                f"the xarray object has the dimensions {tuple(map(str, x.dims))} and none called "
                "'time'; rename the one along which the samples lie, e.g. x.rename(cycle='time')"
            )
        if isinstance(x, xr.Dataset):
            x = x.to_dataarray("channel").transpose(..., "channel", "time")
        x = x.transpose(..., "time").values
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise ParameterError(f"series of type {array.dtype}: expected real numbers")
    if not 1 <= array.ndim <= 3 or array.shape[-1] == 0:
        raise ParameterError(
            f"shape {array.shape}: expected (batch, channels, time), (batch, time) or (time,) with "
            "at least one sample"
        )
    return np.ascontiguousarray(array, np.float32 if array.dtype == np.float32 else np.float64)
