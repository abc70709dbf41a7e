"""DWTPromptGenerator: features and texts per series."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import pywt
import xarray as xr

from oectflow.errors import ParameterError
from oectflow.extractors.prompts import FEATURES, DWTPromptGenerator, as_series, top_lags


def batch(shape=(4, 3, 96), seed=0):
    return np.random.default_rng(seed).normal(size=shape).cumsum(axis=-1)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_features__are_those_of_pywavelets_per_series(dtype):
    x = batch().astype(dtype)
    found = DWTPromptGenerator(mode="symmetric", level=3).features(x)
    assert found.keys() == FEATURES.keys()
    centred = x - x.mean(axis=-1, keepdims=True, dtype=np.float64)
    energy = np.stack(
        [(c**2).sum(-1) for c in pywt.wavedec(centred, "db4", "symmetric", 3)], axis=-1
    )
    np.testing.assert_allclose(found["energy"], energy, rtol=1e-11)
    share = energy / energy.sum(-1, keepdims=True)
    np.testing.assert_allclose(found["entropy"], -(share * np.log(share)).sum(-1), rtol=1e-11)


@pytest.mark.parametrize("detail", ["minimal", "balanced", "detailed"])
@pytest.mark.parametrize("cache_size", [0, 100])
def test_series__is_the_same_alone_and_in_a_batch(detail, cache_size):
    # The original averaged over the batch.
    x = batch((5, 2, 336))
    generator = DWTPromptGenerator(detail=detail, cache_size=cache_size)
    alone = DWTPromptGenerator(detail=detail, cache_size=0)
    together, texts = generator.features(x), generator.prompts(x, description="d", pred_len=24)
    for b in range(5):
        for c in range(2):
            one = alone.features(x[b, c])
            for name, value in together.items():
                np.testing.assert_array_equal(value[b, c], one[name], err_msg=name)
            assert alone.prompts(x[b, c], description="d", pred_len=24) == [texts[2 * b + c]]


def test_zero_row__leaves_the_others_alone():
    # In the original one row without energy gave every row equal shares.
    x = batch()
    clean = DWTPromptGenerator().features(x)
    x[1, 2] = 0.0
    found = DWTPromptGenerator().features(x)
    keep = np.ones((4, 3), bool)
    keep[1, 2] = False
    for name, value in found.items():
        np.testing.assert_array_equal(value[keep], clean[name][keep])
    np.testing.assert_array_equal(found["relative_energy"][1, 2], np.zeros(4))
    assert "constant" in DWTPromptGenerator().prompts(x)[5]


def test_nan_row__leaves_the_others_alone_and_is_said():
    x = batch()
    clean = DWTPromptGenerator().prompts(x)
    x[0, 1, 5] = np.nan
    found = DWTPromptGenerator().prompts(x)
    assert "not finite" in found[1]
    assert found[:1] + found[2:] == clean[:1] + clean[2:]


def test_cache__tells_a_transient_from_its_reverse_and_its_shuffle():
    # All three have the mean, std, minimum and maximum that were the original's key.
    x = np.round(1024 * np.exp(-np.arange(336) / 60.0)) / 1024
    shuffled = np.random.default_rng(1).permutation(x)
    generator = DWTPromptGenerator()
    fresh = DWTPromptGenerator(cache_size=0)
    for series in (x, x[::-1], shuffled, x, np.nextafter(x, 2.0), x.astype(np.float32)):
        for name, value in generator.features(series).items():
            np.testing.assert_array_equal(value, fresh.features(series)[name])
        assert generator.prompts(series) == fresh.prompts(series)
    stats = generator.cache_stats()
    assert (stats["features"].hits, stats["features"].misses) == (1, 5)
    assert (stats["hits"], stats["misses"], stats["hit_rate"]) == (2, 10, 1 / 6)
    assert stats["bytes"] == stats["features"].bytes + stats["prompts"].bytes > 0
    assert (generator.features(x)["trend"] < 0).all()
    assert (generator.features(x[::-1])["trend"] > 0).all()
    assert generator.features(shuffled)["snr"] < generator.features(x)["snr"] - 20


def test_cache__normalised_series_with_equal_range_differ():
    # After normalisation mean and std are the same for all, which left the range as key.
    x = batch((1, 2, 64))
    x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    x[..., 10], x[..., 40] = 3.5, -3.5
    first, second = DWTPromptGenerator().prompts(x)
    assert first != second


def test_cache__options_change_the_text():
    x = batch((1, 1, 96))
    generator = DWTPromptGenerator()
    texts = {
        generator.prompts(x, description=d, seq_len=s, pred_len=p)[0]
        for d in ("a", "b")
        for s in (None, 50)
        for p in (12, 24)
    }
    assert len(texts) == 8
    assert generator.cache_stats()["prompts"].hits == 0


def test_cache__returns_what_may_be_changed():
    x = batch((1, 1, 96))
    generator = DWTPromptGenerator()
    first = generator.features(x)
    kept = {name: value.copy() for name, value in first.items()}
    for value in first.values():
        value[...] = 0
    for name, value in generator.features(x).items():
        np.testing.assert_array_equal(value, kept[name])
        value[...] = 1
    np.testing.assert_array_equal(generator.features(x)["energy"], kept["energy"])
    assert generator.cache_stats()["features"].hits == 2


def test_level__is_capped_by_what_fits_and_said():
    # The original let T >= 2^level pass: 8 samples for three levels, where 56 are needed.
    for n, level in ((8, 0), (14, 1), (28, 2), (55, 2), (56, 3)):
        assert level == (pywt.dwt_max_level(n, 8) if n > 7 else 0)
        found = DWTPromptGenerator(level=3).features(batch((1, 1, n)))
        assert found["level"][0, 0] == level
    assert "too short" in DWTPromptGenerator().prompts(batch((1, 1, 8)))[0]
    assert "2 levels of db4" in DWTPromptGenerator(level="adaptive").prompts(batch((1, 1, 56)))[0]


def test_prompts__say_what_was_asked():
    x = np.sin(2 * np.pi * np.arange(400) / 25) + 0.01 * np.arange(400)
    minimal, balanced, detailed = (
        DWTPromptGenerator(detail=detail).prompts(x, description=" Sensor. ", pred_len=96)[0]
        for detail in ("minimal", "balanced", "detailed")
    )
    assert minimal.splitlines()[:2] == [
        "Dataset: Sensor.",
        "Task: forecast the next 96 steps from the previous 400.",
    ]
    assert "Trend: rising" in minimal
    assert f"minimum {x.min():.4g}, maximum {x.max():.4g}" in minimal
    assert balanced.startswith(minimal)
    assert "resembles itself: 25" in balanced
    assert "in cD" not in minimal
    assert all(f"\n{band} (periods" in detailed for band in ("cA", "cD3", "cD2", "cD1"))
    plain = DWTPromptGenerator(detail="minimal").prompts(x)[0]
    assert plain.startswith("Series: 400 samples")


def test_top_lags__are_the_periods_highest_first():
    k = np.arange(500)
    assert list(top_lags(np.sin(2 * np.pi * k / 20))[:2]) == [20, 40]
    assert top_lags(k.astype(float)).size == 0
    for n in (1, 2, 3, 4):
        assert top_lags(np.arange(n) % 2.0).size <= 1


def test_input__takes_xarray_in_any_order_of_dimensions():
    x = batch()
    generator = DWTPromptGenerator()
    expected = generator.features(x)["energy"]
    array = xr.DataArray(x, dims=("batch", "channel", "time"))
    np.testing.assert_array_equal(generator.features(array)["energy"], expected)
    turned = array.transpose("time", "batch", "channel")
    np.testing.assert_array_equal(generator.features(turned)["energy"], expected)
    dataset = xr.Dataset({f"c{i}": (("batch", "time"), x[:, i]) for i in range(3)})
    np.testing.assert_array_equal(generator.features(dataset)["energy"], expected)
    with pytest.raises(ParameterError, match=r"rename.*'time'"):
        generator.features(array.rename(time="cycle"))


class FakeTensor:
    """What as_series uses of a torch tensor, for where torch is not installed."""

    def __init__(self, values, dtype):
        self.values, self.dtype = values, dtype
        self.steps = []

    def detach(self):
        self.steps.append("detach")
        return self

    def cpu(self):
        self.steps.append("cpu")
        return self

    def to(self, dtype):
        self.steps.append(dtype)
        return FakeTensor(self.values.astype(dtype), dtype)

    def numpy(self):
        assert self.dtype != "bfloat16"
        return self.values


def test_input__takes_tensors_off_their_device(monkeypatch):
    fake = types.SimpleNamespace(Tensor=FakeTensor, float32="float32", float64="float64")
    monkeypatch.setitem(sys.modules, "torch", fake)
    x = batch().astype(np.float32)
    tensor = FakeTensor(x, "float32")
    assert as_series(tensor).dtype == np.float32
    assert tensor.steps == ["detach", "cpu"]
    half = FakeTensor(x, "bfloat16")
    np.testing.assert_array_equal(as_series(half), x.astype(np.float64))
    assert half.steps == ["detach", "cpu", "float64"]


def test_input__takes_real_tensors():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = batch()
    tensor = torch.tensor(x, requires_grad=True)
    np.testing.assert_array_equal(as_series(tensor), x)
    np.testing.assert_array_equal(as_series(tensor.bfloat16()), tensor.bfloat16().double().detach())


def test_input__numbers_of_any_type_and_layout():
    x = np.arange(2 * 3 * 50).reshape(2, 3, 50) % 7
    expected = DWTPromptGenerator().features(x.astype(float))["energy"]
    for same in (x, x.tolist(), np.asfortranarray(x), x.astype(">f8"), x.astype(np.int8)):
        np.testing.assert_array_equal(DWTPromptGenerator().features(same)["energy"], expected)
    assert DWTPromptGenerator().features(np.empty((0, 3, 50)))["energy"].shape == (0, 3, 4)
    assert DWTPromptGenerator().prompts(np.empty((0, 3, 50))) == []


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.float64(1.0), r"shape \(\)"),
        (np.empty((2, 0)), r"shape \(2, 0\)"),
        (np.empty((1, 1, 1, 5)), r"\(batch, channels, time\)"),
        (np.array(["a", "b"]), "real numbers"),
        (np.ones(4, complex), "complex128"),
    ],
)
def test_input__refuses_what_is_no_series(x, message):
    with pytest.raises(ParameterError, match=message):
        DWTPromptGenerator().features(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wavelet": "db44"}, "db44"),
        ({"level": 0}, "level=0"),
        ({"level": "deep"}, "'deep'"),
        ({"detail": "long"}, "detail='long'.*minimal"),
        ({"mode": "smoth"}, "did you mean 'smooth'"),
        ({"detrend": "linear"}, "detrend"),
        ({"dtype": "float16"}, "float16"),
        ({"cache_size": -1}, "cache_size=-1"),
    ],
)
def test_generator__refuses_impossible_options(options, message):
    with pytest.raises(ParameterError, match=message):
        DWTPromptGenerator(**options)
