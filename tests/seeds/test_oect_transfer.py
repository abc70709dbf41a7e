"""Transfer and BatchTransfer against loops over the definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from oectflow.errors import ParameterError
from oectflow.extractors.oect_transfer import (
    BatchTransfer,
    Transfer,
    create_batch_transfer_from_experiment_data,
)

POINTS = ("absgm_max", "gm_max", "gm_min", "absI_max", "I_max", "absI_min", "I_min", "Von")
SIDES = ("raw", "forward", "reverse")


def sweep(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    up = np.linspace(-0.2, 0.6, (n + 1) // 2)
    Vg = np.concatenate([up, up[::-1][1:]])[:n]
    Id = -1e-4 * np.exp(-((Vg - 0.6) ** 2) / 0.1) - 1e-6 + 1e-8 * rng.normal(size=len(Vg))
    return Vg, Id


def slopes(f: np.ndarray, x: np.ndarray) -> list[float]:
    """Return the mean of the slopes to both neighbours, point by point."""
    found = []
    for k in range(len(f)):
        sides = [(f[j + 1] - f[j]) / (x[j + 1] - x[j]) for j in (k - 1, k) if 0 <= j < len(f) - 1]
        found.append(sum(sides) / len(sides))
    return found


def expected(name: str, Vg: np.ndarray, Id: np.ndarray, kind: str) -> tuple[float, float, float]:
    values: Any = {
        "absgm_max": lambda: np.abs(slopes(Id, Vg)),
        "gm_max": lambda: slopes(Id, Vg),
        "gm_min": lambda: slopes(Id, Vg),
        "absI_max": lambda: np.abs(Id),
        "absI_min": lambda: np.abs(Id),
        "I_max": lambda: Id,
        "I_min": lambda: Id,
        "Von": lambda: slopes(np.log10(np.abs(Id)), Vg),
    }[name]()
    lowest = name.endswith("min") or (name == "Von" and kind == "P")
    at = min(range(len(values)), key=lambda k: values[k] if lowest else -values[k])
    return Vg[at] if name == "Von" else values[at], Vg[at], Id[at]


@pytest.mark.parametrize("kind", ["N", "P"])
@pytest.mark.parametrize("n", [41, 40, 3])
def test_points__are_those_of_the_definitions(n: int, kind: str) -> None:
    Vg, Id = sweep(n)
    one = Transfer(Vg, Id, device_type=kind)
    many = BatchTransfer(np.array([[Vg, Id], sweep(n, 1)]), device_type=kind)
    turn = (n - 1) // 2 + 1
    parts = {"raw": slice(None), "forward": slice(turn), "reverse": slice(turn, None)}
    for side, part in parts.items():
        np.testing.assert_array_equal(getattr(one.Vg, side), Vg[part])
        np.testing.assert_array_equal(getattr(many.I, side)[0], Id[part])
        if len(Vg[part]) < 2:
            continue
        np.testing.assert_allclose(getattr(one.gm, side), slopes(Id[part], Vg[part]), rtol=1e-12)
        for name in POINTS:
            value, (vg, current) = getattr(getattr(one, name), side)
            np.testing.assert_allclose(
                [value, vg, current], expected(name, Vg[part], Id[part], kind), rtol=1e-12
            )
            assert getattr(getattr(many, name), side)[0] == value
            np.testing.assert_array_equal(
                getattr(getattr(many, name), f"{side}_coords")[0], [vg, current]
            )


def test_shorter_steps__end_at_their_last_sample() -> None:
    Vg, Id = sweep(21)
    data = np.full((3, 2, 41), np.nan)
    data[0] = sweep(41)
    data[1, :, :21] = Vg, Id
    batch = create_batch_transfer_from_experiment_data(data)
    alone = Transfer(Vg, Id)
    for name in POINTS:
        for side in SIDES:
            values = getattr(getattr(batch, name), side)
            assert values[1] == getattr(getattr(alone, name), side)[0]
            assert np.isnan(values[2])
    np.testing.assert_array_equal(batch.Vg.forward[1, :11], Vg[:11])
    assert np.isnan(batch.Vg.forward[1, 11:]).all()
    assert batch.get_data_summary()["step_count"] == 3
    assert batch.get_data_summary()["vg_global_range"] == (Vg.min(), pytest.approx(0.6))


def test_faults_that_are_corrected() -> None:
    # A voltage twice: the old difference was divided by 1e-12 V.
    held = Transfer([0.0, 0.1, 0.1, 0.2, 0.3], [1e-6, 2e-6, 3e-6, 4e-6, 5e-6])
    assert held.absgm_max.raw[0] == pytest.approx(1e-5)
    assert np.isnan(held.gm.raw[1:3]).all()
    # A current below 1e-12 A: its logarithm was constant, and Von the first point.
    small = Transfer(np.arange(5.0), [1e-16, 2e-16, 1e-14, 2e-14, 3e-14])
    assert small.Von.forward[0] in (1.0, 2.0)
    # One point has no slope: that was 0 S at 0 V.
    one = Transfer([0.3], [1e-6])
    assert np.isnan(one.gm_max.raw[0])
    assert np.isnan(one.Von.reverse[0])
    assert one.I_max.raw == (1e-6, (0.3, 1e-6))


@pytest.mark.parametrize(
    ("x", "y", "kind", "said"),
    [
        ([], [], "N", r"shape \(0,\)"),
        ([1.0], [1.0, 2.0], "N", r"y \(2,\)"),
        ([np.nan], [1.0], "N", "must be finite"),
        ([1.0], [1.0], "X", "device_type='X'; known: N, P"),
    ],
)
def test_wrong_input(x: Any, y: Any, kind: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Transfer(x, y, kind)


def test_seed_002_6__an_extractor_with_batch_transfer(notebook: Any) -> None:
    with pytest.warns(UserWarning, match="takes the place of"):
        names = notebook("""
from infra.oect_transfer import BatchTransfer
from infra.features_v2.extractors.base import BaseExtractor, register

def _step_to_batch(step_data):
    return np.array([[step_data['Vg'], step_data['Id']]])

@register('transfer.gm_max')
class GmMaxExtractor(BaseExtractor):
    def extract_single_step(self, step_data, params):
        transfer_3d = _step_to_batch(step_data)
        batch = BatchTransfer(transfer_3d, device_type=params.get('device_type', 'N'))
        return np.array([
            batch.absgm_max.forward[0],
            batch.absgm_max.reverse[0]
        ], dtype=np.float32)

    @property
    def output_shape(self):
        return (2,)  # [forward, reverse]

gm = exp.extract_features_v2({'gm': {'extractor': 'transfer.gm_max', 'input': 'transfer'}}, 'dict')
direct = BatchTransfer(exp.get_transfer_data()['measurement_data']).absgm_max
""")
    expected_gm = np.stack([names["direct"].forward, names["direct"].reverse], axis=1)
    np.testing.assert_array_equal(names["gm"]["gm"], expected_gm.astype(np.float32))


def test_unknown_property_names_the_nearest() -> None:
    with pytest.raises(AttributeError, match="did you mean 'gm_max'"):
        _ = BatchTransfer(np.array([sweep(5)])).gm_mx
