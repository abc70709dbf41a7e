"""The wavelet transform and its statistics against PyWavelets, NumPy and mpmath."""

from __future__ import annotations

import warnings

import mpmath
import numpy as np
import pytest
import pywt

from oectflow.errors import ParameterError
from oectflow.extractors import dwt
from oectflow.extractors.kernels.selection import median_magnitude, median_of
from oectflow.extractors.kernels.wavelets import fitting_level

WAVELETS = pywt.wavelist(kind="discrete")
LENGTHS = (*range(1, 71), 99, 100, 101, 199, 336, 500, 1000, 1001)


def features_of(x, **options):
    """Wavelet features of the rows of ``x``."""
    x = np.atleast_2d(x)
    begins = np.arange(len(x)) * x.shape[1]
    return dwt.wavelet_features(x.reshape(-1), begins, begins + x.shape[1], **options)


def reference_wavedec(x, wavelet, level, mode):
    """PyWavelets' transform, which warns above the level that fits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return pywt.wavedec(x, wavelet, mode, level)


def tolerance(dtype, wavelet, level, mode):
    """Relative to the largest coefficient.

    1e-13 and 1e-6 are asked for.  A level rounds F products: (F + 2) eps / 2 of the sum of their
    magnitudes, in the mean much less, and levels add up: 1e-6 holds for float32 up to four levels,
    so the fifth and sixth get a quarter more each.  ``smooth`` continues the difference of two
    samples over F - 1 steps, and so their rounding, four half units.  ``antireflect`` takes twice
    the edge less a sample, and so the rounding of three.
    """
    asked, eps = (1e-13, 2.0**-52) if dtype == "float64" else (1e-6, 2.0**-23)
    asked *= max(1.0, level / 4) if dtype == "float32" else 1.0
    n_taps = pywt.Wavelet(wavelet).dec_len
    if mode == "antireflect":
        asked *= 3 if dtype == "float32" else 1
    return max(asked, 4 * (n_taps - 1) * eps * max(1, level / 2)) if mode == "smooth" else asked


def assert_agrees(x, wavelet, level, mode, dtype):
    reference = reference_wavedec(x.astype(np.float64), wavelet, level, mode)
    found = dwt.wavedec(x, wavelet, level, mode, dtype)
    assert [c.shape for c in found] == [c.shape for c in reference]
    assert {c.dtype for c in found} == {np.dtype(dtype)}
    largest = max(np.abs(c).max() for c in reference)
    error = max(np.abs(a - b).max() for a, b in zip(found, reference, strict=True))
    assert error <= tolerance(dtype, wavelet, level, mode) * largest, (wavelet, level, mode)


@pytest.mark.parametrize("mode", dwt.MODES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_wavedec__agrees_with_pywavelets_for_all_lengths_and_levels(mode, dtype):
    rng = np.random.default_rng(1)
    for n in LENGTHS:
        x = rng.normal(size=(2, n)).astype(dtype)
        for wavelet in ("haar", "db2", "db4", "sym5", "bior4.4", "coif3"):
            for level in range(1, 7):
                # PyWavelets refuses to reflect a single sample; it comes up in deep levels of haar.
                if "reflect" in mode and (n == 1 or (wavelet == "haar" and n <= 2**level)):
                    continue
                assert_agrees(x, wavelet, level, mode, dtype)


@pytest.mark.parametrize("mode", dwt.MODES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_wavedec__agrees_with_pywavelets_for_all_wavelets(mode, dtype):
    rng = np.random.default_rng(2)
    for n in (3, 64, 101, 1001):
        x = rng.normal(size=(1, n)).astype(dtype)
        for wavelet in WAVELETS:
            assert_agrees(x, wavelet, 1 if n == 3 else 4, mode, dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_wavedec__agrees_with_pywavelets_anywhere(dtype):
    # 4000 of the four million transforms that benchmarks/wavelet_parity.py compares.
    rng = np.random.default_rng([3, len(dtype)])
    lengths = (*range(1, 71), *range(99, 1002))
    for _ in range(4000):
        n, level = int(rng.choice(lengths)), int(rng.integers(1, 7))
        wavelet, mode = str(rng.choice(WAVELETS)), str(rng.choice(dwt.MODES))
        taps = pywt.Wavelet(wavelet).dec_len
        if "reflect" in mode and (n == 1 or (taps == 2 and n <= 2**level)):
            continue
        assert_agrees(rng.normal(size=(1, n)).astype(dtype), wavelet, level, mode, dtype)


@pytest.mark.parametrize("mode", ["smooth", "reflect", "antireflect"])
def test_wavedec__repeats_a_single_sample(mode):
    for a, b in zip(
        dwt.wavedec([2.5], "db4", 2, mode), dwt.wavedec([2.5], "db4", 2, "constant"), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_wavedec__keeps_leading_axes():
    x = np.random.default_rng(3).normal(size=(2, 3, 40))
    for a, b in zip(dwt.wavedec(x), pywt.wavedec(x, "db4", level=2), strict=False):
        assert a.shape[:2] == (2, 3) == b.shape[:2]
    np.testing.assert_array_equal(dwt.wavedec(x, level=0)[0], x)


def test_wavedec__refuses_what_it_cannot_do():
    with pytest.raises(ParameterError, match=r"db44.*did you mean 'db4'"):
        dwt.wavedec([1.0, 2.0], "db44")
    with pytest.raises(ParameterError, match="mexh"):
        dwt.wavedec([1.0, 2.0], "mexh")
    with pytest.raises(ParameterError, match="periodization"):
        dwt.wavedec([1.0, 2.0], mode="periodization")
    with pytest.raises(ParameterError, match="-1"):
        dwt.wavedec([1.0, 2.0], level=-1)
    with pytest.raises(ValueError, match=r"\(3, 0\)"):
        dwt.wavedec(np.empty((3, 0)))


def test_wavedec__keeps_nan_in_its_row():
    x = np.random.default_rng(4).normal(size=(3, 50))
    clean = dwt.wavedec(x)
    x[1, 20] = np.nan
    for a, b in zip(dwt.wavedec(x), clean, strict=True):
        np.testing.assert_array_equal(a[[0, 2]], b[[0, 2]])
        assert np.isnan(a[1]).any()


def exact_statistics(x, wavelet, level, mode, centre):
    """Statistics of one series, all in 40 digits; the transform as its definition says."""
    with mpmath.workdps(40):
        values = [mpmath.mpf(float(v)) for v in x]
        if centre:
            mean = mpmath.fsum(values) / len(values)
            values = [v - mean for v in values]
        bank = pywt.Wavelet(wavelet)
        lo, hi = ([mpmath.mpf(h) for h in taps] for taps in (bank.dec_lo, bank.dec_hi))
        bands = []
        for _ in range(level):
            n, n_taps = len(values), len(lo)

            def at(i, values=values, n=n):
                if 0 <= i < n:
                    return values[i]
                if mode == "symmetric":
                    return values[i % (2 * n) if i % (2 * n) < n else 2 * n - 1 - i % (2 * n)]
                edge, inner = (0, 1) if i < 0 else (n - 1, n - 2)
                return values[edge] + abs(i - edge) * (values[edge] - values[inner])

            m = (n + n_taps - 1) // 2
            low, high = (
                [mpmath.fsum(h[k] * at(2 * i + 1 - k) for k in range(n_taps)) for i in range(m)]
                for h in (lo, hi)
            )
            bands.insert(0, high)
            values = low
        bands.insert(0, values)
        energy = [mpmath.fsum(c * c for c in band) for band in bands]
        total, detail = mpmath.fsum(energy), mpmath.fsum(energy[1:])
        mean = [mpmath.fsum(band) / len(band) for band in bands]
        std = [
            mpmath.sqrt(mpmath.fsum((c - mu) ** 2 for c in band) / len(band))
            for band, mu in zip(bands, mean, strict=True)
        ]
        magnitudes = sorted(abs(c) for c in bands[-1])
        middle = (magnitudes[(len(magnitudes) - 1) // 2] + magnitudes[len(magnitudes) // 2]) / 2
        return {
            "energy": energy,
            "relative_energy": [e / total for e in energy],
            "relative_detail_energy": [mpmath.nan, *(e / detail for e in energy[1:])],
            "std": std,
            "mean_abs": [mpmath.fsum(abs(c) for c in band) / len(band) for band in bands],
            "max_abs": [max(abs(c) for c in band) for band in bands],
            "entropy": -mpmath.fsum(e / total * mpmath.log(e / total) for e in energy),
            "detail_entropy": -mpmath.fsum(e / detail * mpmath.log(e / detail) for e in energy[1:]),
            "snr": 20 * mpmath.log10(std[0] / std[-1]),
            "noise_sigma": middle / mpmath.mpf("0.6745"),
        }


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
@pytest.mark.parametrize("mode", ["smooth", "symmetric"])
@pytest.mark.parametrize("detrend", ["mean", "none"])
def test_features__are_exact_whatever_the_offset(offset, mode, detrend):
    x = np.random.default_rng(5).normal(size=300) + offset
    found = features_of(x, mode=mode, detrend=detrend)
    for name, value in exact_statistics(x, "db4", 3, mode, detrend == "mean").items():
        got = getattr(found, name)[0]
        want = np.array(value, dtype=np.float64)
        # 1e-9 is asked for: rounding of samples 1e5 times larger than what is left of them.
        np.testing.assert_allclose(got, want, rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_features__float32_centres_in_float64_first(offset):
    x = np.random.default_rng(6).normal(size=(4, 500)) + offset
    single, double = features_of(x, dtype="float32"), features_of(x)
    for name in ("energy", "relative_energy", "std", "mean_abs", "max_abs"):
        # Three levels of 8 products and sums of at most 512 terms in sixteen or fewer lanes: some
        # ten units of 2^-24 each.
        np.testing.assert_allclose(getattr(single, name), getattr(double, name), rtol=1e-5)


def test_features__long_series_sum_as_exactly_as_short_ones():
    x = np.random.default_rng(7).normal(size=50_000)
    c = pywt.wavedec(x - x.mean(), "db4", "smooth", 3)
    found = features_of(x)
    # NumPy sums pairwise; both are within log2(m) + 16 units of 2^-53.
    np.testing.assert_allclose(found.energy[0], [np.sum(b * b) for b in c], rtol=1e-13)
    np.testing.assert_allclose(found.std[0], [np.std(b) for b in c], rtol=1e-13)
    np.testing.assert_allclose(found.mean_abs[0], [np.mean(np.abs(b)) for b in c], rtol=1e-13)
    # The largest and the middle coefficient are single ones, good to rounding of the transform.
    np.testing.assert_allclose(found.max_abs[0], [np.max(np.abs(b)) for b in c], rtol=1e-13)
    sigma = np.median(np.abs(c[-1])) / 0.6745
    np.testing.assert_allclose(found.noise_sigma[0], sigma, atol=1e-13 * np.abs(c[-1]).max())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_features__have_the_same_bits_alone_and_in_a_batch(dtype):
    rng = np.random.default_rng(8)
    lengths = rng.integers(1, 700, 40)
    ends = np.cumsum(lengths)
    x = rng.normal(size=ends[-1])
    together = dwt.wavelet_features(x, ends - lengths, ends, dtype=dtype, level="adaptive")
    for i, (begin, end) in enumerate(zip(ends - lengths, ends, strict=True)):
        alone = features_of(x[begin:end].copy(), dtype=dtype, level="adaptive")
        for name in alone._fields:
            if name != "bands":
                np.testing.assert_array_equal(getattr(together, name)[i], getattr(alone, name)[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 50, 99])
def test_features__not_finite_stays_in_its_row(bad, at):
    x = np.random.default_rng(9).normal(size=(3, 100))
    clean = features_of(x)
    x[1, at] = bad
    found = features_of(x)
    assert [dwt.OUTCOMES[code] for code in found.outcome] == ["ok", "nan", "ok"]
    assert np.isnan(found.energy[1]).all()
    assert found.level[1] == -1
    np.testing.assert_array_equal(found.energy[[0, 2]], clean.energy[[0, 2]])
    np.testing.assert_array_equal(found.noise_sigma[[0, 2]], clean.noise_sigma[[0, 2]])


@pytest.mark.parametrize("value", [0.0, -0.0, 1.1, 1e-12])
def test_features__constant_rows_have_defined_values(value):
    x = np.random.default_rng(10).normal(size=(3, 100))
    clean = features_of(x)
    x[1] = value
    found = features_of(x)
    assert dwt.OUTCOMES[found.outcome[1]] == "flat"
    for name in ("energy", "relative_energy", "std", "mean_abs", "max_abs"):
        np.testing.assert_array_equal(getattr(found, name)[1], np.zeros(4))
    for name in ("entropy", "detail_entropy", "trend", "snr", "noise_sigma"):
        assert getattr(found, name)[1] == 0.0
    # A row without energy is its own affair.
    np.testing.assert_array_equal(found.relative_energy[[0, 2]], clean.relative_energy[[0, 2]])


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db4", "sym8", "dmey"])
def test_level__is_the_largest_that_fits(wavelet):
    n_taps = pywt.Wavelet(wavelet).dec_len
    for n in range(1, 2000):
        most = pywt.dwt_max_level(n, wavelet) if n >= n_taps - 1 else 0
        assert fitting_level(n, 3, n_taps) == (min(3, most), most < 3)


def test_level__adaptive_grows_with_length_and_never_beyond_what_fits():
    wanted = {27: 1, 28: 2, 199: 2, 200: 3, 499: 3, 500: 4, 10_000: 4}
    for n, level in wanted.items():
        found = features_of(np.random.default_rng(n).normal(size=n), level="adaptive")
        assert found.bands == ("cA", "cD4", "cD3", "cD2", "cD1")
        assert found.level[0] == level
        assert dwt.OUTCOMES[found.outcome[0]] == ("short" if n == 27 else "ok")
        used = [b for b, e in zip(found.bands, found.energy[0], strict=True) if not np.isnan(e)]
        assert used == list(dwt.band_names(level))


def test_features__too_short_a_series_says_so():
    x = np.random.default_rng(11).normal(size=30)
    found = features_of(x, level=3)
    assert dwt.OUTCOMES[found.outcome[0]] == "short"
    assert found.level[0] == 2
    two = features_of(x, level=2)
    np.testing.assert_array_equal(found.energy[0], np.insert(two.energy[0], 1, np.nan))
    none = features_of(x[:5])
    assert none.level[0] == 0
    # Without any level the series itself is the approximation.
    np.testing.assert_allclose(none.energy[0, 0], np.sum((x[:5] - x[:5].mean()) ** 2), rtol=1e-14)
    assert np.isnan(none.energy[0, 1:]).all()
    empty = dwt.wavelet_features(x, np.array([3]), np.array([3]))
    assert dwt.OUTCOMES[empty.outcome[0]] == "no_data"


@pytest.mark.parametrize("mode", dwt.MODES)
@pytest.mark.parametrize("wavelet", ["haar", "db4", "bior4.4", "sym5"])
def test_trend__is_the_slope_whatever_the_padding(mode, wavelet):
    # The original took mean(diff(c)), which is (c[-1] - c[0]) / (n - 1): two padded coefficients.
    rng = np.random.default_rng(12)
    line = 5.0 - 0.25 * np.arange(400)
    # cA of a line is a line; sum(lo) = sqrt(2) to 1e-11 in PyWavelets' tables.
    np.testing.assert_allclose(
        features_of(line, mode=mode, wavelet=wavelet).trend, -0.25, rtol=1e-9
    )
    noisy = line + rng.normal(size=400)
    smooth = features_of(noisy, mode="smooth", wavelet=wavelet)
    assert features_of(noisy, mode=mode, wavelet=wavelet).trend == smooth.trend
    noisy[[0, -1]] += 30.0
    # A least-squares slope over about 45 coefficients moves by 6 * 30 / 400 / 45 per end at most.
    spiked = features_of(noisy, mode=mode, wavelet=wavelet)
    assert abs(spiked.trend[0] + 0.25) < 0.05


def test_noise_sigma__of_white_noise_on_a_transient():
    k = np.arange(20_000)
    x = 1e-3 + 5e-3 * (1 - np.exp(-k / 400.0))
    x = x + 2e-6 * np.random.default_rng(13).normal(size=k.size)
    # The median of 10^4 magnitudes has a standard error of 1.17 %.
    np.testing.assert_allclose(features_of(x).noise_sigma, 2e-6, rtol=0.04)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_median_magnitude__is_that_of_numpy(dtype):
    rng = np.random.default_rng(14)
    integer = "int64" if dtype == "float64" else "int32"
    for m in (*range(1, 70), 171, 503, 504, 4096):
        cases = [
            rng.normal(size=m),
            np.round(rng.normal(size=m)),
            np.zeros(m),
            np.sin(np.arange(m) * np.pi / 4),
            rng.normal(size=m) * 10.0 ** rng.integers(-12, 12, m),
            (np.arange(m) % 2).astype(float),
            np.arange(m, dtype=float),
            np.where(np.arange(m) % 8 == 4, 0.0, 1.0 + np.arange(m)),
            np.round(rng.normal(size=m), 1),
            np.exp(-np.arange(m) / 3.0),
        ]
        for c in cases:
            work = np.empty(m + 2, dtype)
            work[:m] = c
            magnitudes = np.abs(work[:m].astype(np.float64))
            spare = np.empty((2, m + 2), integer)
            # A mean that is wrong leads another way to the same number.
            for mean in (magnitudes.mean(), 0.0, 1e-3, np.median(magnitudes), 1e30, np.inf, np.nan):
                found = median_magnitude(work.view(integer), m, work, mean, spare[0], spare[1])
                assert found == np.median(magnitudes)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 10, 33, 100, 101])
def test_median_of__few_numbers(n: int) -> None:
    rng = np.random.default_rng(n)
    wide = np.exp(20.0 * rng.normal(size=n)) * rng.choice([-1.0, 1.0], n)
    for values in (
        wide,
        np.sort(wide),
        np.sort(wide)[::-1].copy(),
        rng.integers(-2, 3, n).astype(float),
        np.zeros(n),
        np.where(np.arange(n) == n // 2, np.nan, wide),
        np.where(np.arange(n) == n // 2, np.inf, wide),
    ):
        before = values.copy()
        np.testing.assert_array_equal(median_of(values, n, np.empty(n)), np.median(values))
        np.testing.assert_array_equal(values, before)
    # What lies behind does not count.
    longer = np.append(wide, [np.nan, -1e9])
    assert median_of(longer, n, np.empty(n)) == np.median(wide)
