"""The wavelet generator as the training loops of the seeds use it."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
import types
from typing import Any

import numpy as np
import pytest

import oectflow as of
from oectflow.errors import ParameterError


@pytest.fixture
def x_enc() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 3, 336)).cumsum(axis=-1)


def test_seed_003_4__called_with_a_batch(x_enc: np.ndarray) -> None:
    dwt_generator = of.DWTPromptGenerator()
    features = dwt_generator(x_enc)
    assert len(features) == 4
    whole = dwt_generator.features(x_enc)
    for b, entry in enumerate(dwt_generator.forward(x_enc)):
        # One by one is the same, to the last bit: the loop of the seed's "inefficient" example.
        alone = dwt_generator(x_enc[b : b + 1])[0]
        for name, values in entry.items():
            np.testing.assert_array_equal(values, whole[name][b])
            np.testing.assert_array_equal(values, alone[name])
    with pytest.raises(ParameterError, match="one series is no batch"):
        dwt_generator(x_enc[0, 0])


def test_seed_003_1__hits_and_misses_are_counted(x_enc: np.ndarray) -> None:
    generator = of.DWTPromptGenerator()
    generator(x_enc)
    assert generator.cache_hits + generator.cache_misses == 1
    generator(x_enc)
    stats = generator.cache_stats()
    assert (generator.cache_hits, generator.cache_misses) == (stats["hits"], stats["misses"])


def test_003__a_copy_in_another_process_says_the_same(x_enc: np.ndarray) -> None:
    generator = of.DWTPromptGenerator(level=3)
    before = generator(x_enc)
    copied = pickle.loads(pickle.dumps(generator))
    for entry, known in zip(copied(x_enc), before, strict=True):
        for name, values in entry.items():
            np.testing.assert_array_equal(values, known[name])
    assert (copied.cache_hits, copied.cache_misses) == (0, 1)


@pytest.mark.parametrize(("length", "level"), [(150, 2), (300, 3), (600, 4)])
def test_seed_003_2__the_level_goes_by_the_length(length: int, level: int) -> None:
    generator = of.DWTPromptGenerator(adaptive_level=True)
    assert generator.adaptive_level
    assert not of.DWTPromptGenerator(level=3).adaptive_level
    assert generator.features(np.arange(float(length)))["level"] == level


def test_torch_module(x_enc: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyTorch is missing, with what is used of it."""
    try:
        import torch
    except ModuleNotFoundError:

        class Module:
            def __call__(self, x: Any) -> Any:
                return self.forward(x)

        class Tensor(np.ndarray):
            device = "cpu"

        torch = types.SimpleNamespace(
            nn=types.SimpleNamespace(Module=Module),
            as_tensor=lambda values, device: np.asarray(values),
            from_numpy=lambda values: values.view(Tensor),
            Tensor=type("NoTensor", (), {}),
        )
        monkeypatch.setitem(sys.modules, "torch", torch)
        monkeypatch.delitem(sys.modules, "oectflow.extractors.prompts_torch", raising=False)
    module = importlib.import_module("oectflow.extractors.prompts_torch")
    layer = module.DWTPromptModule(level=2)
    found = layer(torch.from_numpy(x_enc))
    expected = of.DWTPromptGenerator(level=2)(x_enc)
    assert len(found) == 4
    np.testing.assert_array_equal(np.asarray(found[1]["energy"]), expected[1]["energy"])
    # Training loops copy models: the best so far, one for each process.
    copied = copy.deepcopy(layer)(torch.from_numpy(x_enc))
    np.testing.assert_array_equal(np.asarray(copied[1]["energy"]), expected[1]["energy"])
    monkeypatch.delitem(sys.modules, "oectflow.extractors.prompts_torch", raising=False)
