"""The bundled set ``stability``: a device against its own first step, good values only."""

from __future__ import annotations

import numpy as np
import pytest

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device

FADE, SHIFT, N_STEPS = 0.01, 0.002, 12


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ageing")
    device = simulate_device(
        3, n_transfer=N_STEPS, n_transient=4, n_points=121, n_cycles=6, fade=FADE,
        turn_on_shift_V=SHIFT, transfer_noise=1e-4, tau_drift=0.05, test_id="a",
    )  # fmt: skip
    # The first sweep is worth nothing: an instrument that wrote overflow marks.
    device.transfer_steps[0].Id[40:80] = 9.91e37
    device.write(folder / "a.h5")
    of.extract(folder / "a.h5", "stability", folder / "out", progress=False)
    return of.open_results(folder / "out").load().isel(experiment=0)


def test_a_step_that_is_not_ok_is_no_reference(results):
    assert str(results["gm_max_status"].values[0]) != "ok"
    retention = results["gm_max_retention"].values
    assert np.isnan(retention[0])
    assert retention[1] == 1.0
    assert np.isnan(results["Vth_shift"].values[0])


def test_what_was_simulated_is_found(results):
    since = np.arange(N_STEPS - 1)
    # Noise of 1e-4 of every current, over the slope of a few points.
    assert results["gm_max_retention"].values[1:] == pytest.approx(1 - FADE * since, abs=0.03)
    assert results["absI_max_retention"].values[1:] == pytest.approx(1 - FADE * since, abs=0.01)
    assert results["Vth_shift"].values[-1] == pytest.approx(SHIFT * since[-1], abs=0.006)
    taus = results["tau_on_change"].values
    assert taus[0] == 1.0
    assert taus[3] == pytest.approx(1 + 0.05 * 3, abs=0.03)


def test_a_half_life_is_that_of_the_feature_itself(results):
    whole = results.expand_dims("experiment")
    share = of.fit_degradation(whole, "gm_max_retention")
    itself = of.fit_degradation(whole, "gm_max")
    assert share.best.item() == itself.best.item()
    np.testing.assert_allclose(
        share.half_life.sel(model="exponential"),
        itself.half_life.sel(model="exponential"),
        rtol=1e-6,
    )
