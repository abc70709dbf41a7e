"""The extractor transient.dwt."""

from __future__ import annotations

import numpy as np
import pytest
import pywt

from oectflow.errors import ParameterError
from oectflow.extractors import wavelet  # noqa: F401 - registers the extractor
from oectflow.extractors.base import COMMON_STATUSES, get_extractor
from oectflow.extractors.timing import CYCLES_FROM
from oectflow.measurement import Batch

INTERVAL = 1e-3
PERIOD = 0.4


def transient(n=1200, *, seed=0, duty_cycle=0.25):
    """Gate cycles of 400 samples, on for the first quarter, with relaxation and noise."""
    k = np.arange(n)
    on = k % 400 < 100
    level = np.where(on, 1 - np.exp(-(k % 400) / 20.0), np.exp(-(k % 400 - 100) / 60.0))
    noise = np.random.default_rng(seed).normal(size=n)
    return {
        "continuous_time": INTERVAL * k,
        "original_time": INTERVAL * k,
        "drain_current": 1e-3 + 5e-3 * level + 2e-6 * noise,
        "sampling_interval": INTERVAL,
        "gate_period": PERIOD,
        "duty_cycle": duty_cycle,
    }


def word(extractor, columns):
    return list(extractor.variables["status"].statuses)[int(columns["status"])]


def test_dwt__energies_are_those_of_pywavelets():
    step = transient()
    found = get_extractor("transient.dwt").extract_step(step)
    current = step["drain_current"]
    bands = pywt.wavedec(current - current.mean(), "db4", "smooth", 3)
    np.testing.assert_allclose(found["value"], [np.sum(c * c) for c in bands], rtol=1e-11)
    np.testing.assert_allclose(found["std"], [np.std(c) for c in bands], rtol=1e-11)
    assert found["level"] == 3


def test_dwt__declares_bands_units_and_descriptions():
    extractor = get_extractor("transient.dwt", {"level": 2})
    variables = extractor.variables
    assert extractor.output_shape == (3,)
    assert variables["value"].labels == {"band": ("cA", "cD2", "cD1")}
    assert {name: v.unit for name, v in variables.items()} == {
        "value": "A^2",
        "status": "",
        "relative_energy": "",
        "relative_detail_energy": "",
        "std": "A",
        "mean_abs": "A",
        "max_abs": "A",
        "entropy": "",
        "detail_entropy": "",
        "trend": "A/s",
        "snr": "dB",
        "noise_sigma": "A",
        "level": "",
    }
    assert all(v.description for v in variables.values())


@pytest.mark.parametrize("part", ["step", "on", "off"])
@pytest.mark.parametrize("level", [3, "adaptive"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_dwt__has_the_same_bits_in_a_batch(part, level, dtype):
    steps = [
        transient(),
        transient(1201, seed=1),
        transient(50, seed=2),
        transient(430, seed=3),
        transient(0),
        transient(3),
    ]
    steps[1]["drain_current"][700] = np.nan
    steps.append({**transient(), "gate_period": np.nan, "sampling_interval": np.nan})
    steps.append({**transient(), "drain_current": np.full(1200, 1.3e-3)})
    extractor = get_extractor("transient.dwt", {"part": part, "level": level, "dtype": dtype})
    batch = Batch.from_steps(steps)
    together = extractor.extract_batch(batch, extractor.params)
    assert together.keys() == extractor.variables.keys()
    for i, step in enumerate(steps):
        alone = extractor.extract_step(step)
        for name, column in together.items():
            assert column.dtype == extractor.variables[name].dtype
            np.testing.assert_array_equal(column[i], alone[name], err_msg=f"{name} of step {i}")


@pytest.mark.parametrize(
    ("part", "cycle", "span"),
    [
        ("on", 1, (0, 100)),
        ("on", 3, (800, 900)),
        ("off", 1, (100, 400)),
        ("off", 3, (900, 1200)),
    ],
)
def test_dwt__phase_is_that_part_of_the_step(part, cycle, span):
    step = transient()
    found = get_extractor("transient.dwt", {"part": part, "cycle": cycle}).extract_step(step)
    phase = {**step, "drain_current": step["drain_current"][slice(*span)]}
    del phase["continuous_time"], phase["original_time"]
    whole = get_extractor("transient.dwt").extract_step(phase)
    assert found.pop("cycles_from") == list(CYCLES_FROM).index("nominal")
    for name in found:
        np.testing.assert_array_equal(found[name], whole[name], err_msg=name)


def test_dwt__off_phase_follows_the_on_phase_of_its_cycle():
    step = transient()
    # The period begins with 300 samples off.
    step["drain_current"] = np.roll(step["drain_current"], 300)
    found = get_extractor("transient.dwt", {"part": "off", "cycle": 1}).extract_step(step)
    phase = {k: step[k] for k in ("sampling_interval", "gate_period", "duty_cycle")}
    phase["drain_current"] = step["drain_current"][400:700]
    np.testing.assert_array_equal(
        found["value"], get_extractor("transient.dwt").extract_step(phase)["value"]
    )


def test_dwt__status_says_how_to_read_it():
    step = transient()
    cases = [
        ({}, step, "ok"),
        ({"level": 8}, step, "short"),
        ({}, {**step, "drain_current": np.full(1200, 1.1)}, "flat"),
        ({}, {**step, "drain_current": np.where(np.arange(1200) == 7, np.nan, 1.0)}, "nan"),
        ({}, {k: np.asarray(v)[:0] if np.ndim(v) else v for k, v in step.items()}, "no_data"),
        ({"part": "on", "cycle": 4}, step, "cut"),
        ({"part": "off", "period": 5.0}, step, "cut"),
        ({"part": "on"}, {**step, "gate_period": np.nan}, "no_period"),
        ({"part": "on"}, {**step, "sampling_interval": np.nan}, "no_period"),
    ]
    for params, data, status in cases:
        extractor = get_extractor("transient.dwt", params)
        found = extractor.extract_step(data)
        assert word(extractor, found) == status, params
        answered = status in ("ok", "short", "flat")
        assert np.isfinite(found["value"][0]) == answered
        assert (found["level"] >= 0) == answered
    assert not set(get_extractor("transient.dwt").statuses) & set(COMMON_STATUSES)


def test_dwt__trend_is_in_amperes_per_second():
    step = transient()
    step["drain_current"] = 2e-3 - 0.75e-3 * step["original_time"]
    # cA of a line is a line, up to rounding and the last digits of PyWavelets' filters.
    found = get_extractor("transient.dwt").extract_step(step)
    np.testing.assert_allclose(found["trend"], -0.75e-3, rtol=1e-9)
    slow = get_extractor("transient.dwt", {"sample_rate": 500.0})
    # Recorded times win, and the word says that they do not agree.
    recorded = slow.extract_step(step)
    assert word(slow, recorded) == "clock"
    np.testing.assert_allclose(recorded["trend"], -0.75e-3, rtol=1e-9)
    del step["original_time"]
    half = slow.extract_step(step)
    np.testing.assert_allclose(half["trend"], -0.375e-3, rtol=1e-9)
    assert word(slow, half) == "ok"
    unknown = get_extractor("transient.dwt").extract_step({**step, "sampling_interval": np.nan})
    assert np.isnan(unknown["trend"])
    np.testing.assert_array_equal(unknown["value"], found["value"])


def test_dwt__scales_with_the_current():
    step = transient()
    one = get_extractor("transient.dwt").extract_step(step)
    two = get_extractor("transient.dwt").extract_step(
        {**step, "drain_current": -4.0 * step["drain_current"]}
    )
    # A power of two changes no digit.
    np.testing.assert_array_equal(two["value"], 16.0 * one["value"])
    np.testing.assert_array_equal(two["noise_sigma"], 4.0 * one["noise_sigma"])
    np.testing.assert_array_equal(two["relative_energy"], one["relative_energy"])
    np.testing.assert_array_equal(two["trend"], -4.0 * one["trend"])


def test_dwt__details_tell_what_a_transient_hides():
    # The raw transient has 99.99 % of its energy in cA, whatever its noise: entropy 0.001.
    quiet, loud = (
        1e-3
        + 5e-3 * (1 - np.exp(-np.arange(1000) / 20.0))
        + sigma * np.random.default_rng(3).normal(size=1000)
        for sigma in (1e-7, 1e-5)
    )
    step = {"sampling_interval": INTERVAL, "gate_period": np.nan, "duty_cycle": np.nan}
    raw = get_extractor("transient.dwt", {"detrend": "none"})
    entropy = [raw.extract_step({**step, "drain_current": x})["entropy"] for x in (quiet, loud)]
    assert max(entropy) < 0.001
    ours = get_extractor("transient.dwt")
    first, second = (ours.extract_step({**step, "drain_current": x}) for x in (quiet, loud))
    assert second["detail_entropy"] > 1.5 * first["detail_entropy"]
    assert second["relative_detail_energy"][-1] > 2 * first["relative_detail_energy"][-1]
    # Two standard errors of the median of 500 magnitudes are 10 %.
    np.testing.assert_allclose(second["noise_sigma"], 1e-5, rtol=0.15)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"wavelet": "db99"}, "db99.*discrete wavelet"),
        ({"level": 0}, "1 to 20"),
        ({"level": "deep"}, "level"),
        ({"mode": "periodization"}, "mode"),
        ({"dtype": "float16"}, "dtype"),
        ({"cycle": 0}, "cycle"),
        ({"depth": 3}, "unknown parameter 'depth'"),
    ],
)
def test_dwt__refuses_impossible_parameters(params, message):
    with pytest.raises(ParameterError, match=message):
        get_extractor("transient.dwt", params)
