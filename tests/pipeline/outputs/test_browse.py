"""The browser of experiments, driven by its widgets."""

from __future__ import annotations

import io
import sys

import matplotlib.image
import numpy as np
import pytest

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Raw folder and results of two devices of different length."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "raw").mkdir()
    for name, steps, cycles in (("long", 4, 6), ("short", 2, 3)):
        device = simulate_device(
            len(name), n_transfer=steps - 1, n_transient=steps, n_cycles=cycles, test_id=name
        )
        device.write(folder / "raw" / f"{name}.h5")
    of.extract(folder / "raw", "all", folder / "out", progress=False)
    return folder / "raw", folder / "out"


def pixels(view):
    return matplotlib.image.imread(io.BytesIO(view.picture.value))


def test_browse__sliders_show_the_step_that_they_say(lab, monkeypatch):
    raw, out = lab
    view = of.browse(raw, out)
    drawn = []
    pages = view._pages
    monkeypatch.setattr(pages, "picture", lambda *at: drawn.append(at) or b"png")
    assert view.experiment.options == ("long", "short")
    assert (view.step.max, view.cycle.max) == (3, 5)
    view.step.value = 3
    view.cycle.value = 5
    view.experiment.value = "short"
    # The longer experiment's last step and cycle are beyond the shorter one's.
    assert (view.step.value, view.cycle.value) == (1, 2)
    assert drawn[:2] == [("long", 3, 0), ("long", 3, 5)]
    assert drawn[-1] == ("short", 1, 2)
    assert len(drawn) == len(set(drawn))


def test_browse__picture_and_table(lab):
    raw, out = lab
    results = of.open_results(out)
    view = of.browse([raw / "long.h5"], results)
    assert view.experiment.options == ("long",)
    first = pixels(view)
    assert first.shape[1] > 1000
    view.step.value, view.cycle.value = 2, 3
    assert not np.array_equal(first, pixels(view))
    one = results.sel(experiment="long").isel(step=2).load()
    tau = float(one["tau"].isel(cycle=3).sel(phase="on"))
    assert f"<td>tau on<td>{tau * 1e3:.2f} ms<td>ok" in view.table.value
    gm = float(one["gm_max_forward"])
    assert f"<td>gm_max_forward <td>{gm * 1e3:.2f} mS<td>ok" in view.table.value
    assert "<td>gm_max_coords Vg<td>" in view.table.value
    # A step more of the transient than of the transfer.
    view.step.value = 3
    assert "<b>" in view.table.value or "absent" in view.table.value


def test_browse__fits_are_drawn(lab, monkeypatch):
    raw, out = lab
    calls = []
    monkeypatch.setattr(
        "oectflow.pipeline.outputs.browse.plot_transient",
        lambda *at, **options: calls.append((at[2], options["cycles"])),
    )
    view = of.browse(raw, out)
    view.cycle.value = 4
    assert calls == [(0, [0]), (0, [4])]


def test_browse__from_flag_to_flag(lab):
    raw, out = lab
    results = of.open_results(out).load()
    tau = results["tau_status"]
    tau.loc[{"experiment": "long"}].values[2, 1, 0] = "low_r2"
    tau.loc[{"experiment": "long"}].values[2, 4, 1] = "noise"
    results["gm_max_forward_status"].loc[{"experiment": "short"}].values[0] = "edge"
    flagged = {
        (str(name), step)
        for key in results
        if str(key).endswith("_status")
        for name in results["experiment"].values
        for step in range(results.sizes["step"])
        if not results[key].sel(experiment=name).isel(step=step).isin(["ok", "absent"]).all()
    }
    view = of.browse(raw, results)
    seen = []
    for _ in range(len(flagged) + 10):
        view.next_flagged.click()
        at = (view.experiment.value, view.step.value, view.cycle.value)
        if at in seen:
            break
        seen.append(at)
    # All of them, in order, and then again the first.
    assert {at[:2] for at in seen} == flagged
    assert at == seen[0]
    assert seen == sorted(seen)
    assert {("long", 2, 1), ("long", 2, 4), ("short", 0, 0)} <= set(seen)


def test_browse__nothing_is_flagged(lab):
    raw, out = lab
    gm = of.open_results(out)[["gm_max_forward", "gm_max_forward_status"]]
    view = of.browse(raw, gm)
    view.next_flagged.click()
    assert view.message.value == "nothing is flagged"
    view.next_worst.click()
    assert view.message.value == "there are no fits"


def test_browse__from_the_worst_fit_on(lab):
    raw, out = lab
    results = of.open_results(out).load()
    view = of.browse(raw, results)
    least = results["tau_r_squared"].min("phase")
    wanted = np.sort(least.values[np.isfinite(least.values)])[:4]
    for r_squared in wanted:
        view.next_worst.click()
        shown = least.sel(experiment=view.experiment.value).isel(
            step=view.step.value, cycle=view.cycle.value
        )
        assert float(shown) == r_squared
        assert view.message.value.startswith(f"R² {r_squared:.4f}")
    assert "R² of tau on" in view.table.value


def test_browse__zoom_shows_the_figure_itself(lab):
    pytest.importorskip("ipympl")
    view = of.browse(*lab)
    view.zoom.value = True
    (canvas,) = view._canvas.children
    assert view.picture.layout.display == "none"
    assert len(canvas.figure.axes) >= 3
    assert (
        "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    )
    view.zoom.value = False
    assert view._canvas.children == ()


def test_browse__files_that_cannot_be_used(lab, tmp_path):
    raw, out = lab
    (tmp_path / "broken.h5").write_bytes(b"nothing")
    view = of.browse([raw, tmp_path], out)
    assert view.children[4].value == "raw files that cannot be used: 1"
    with pytest.raises(of.InputError, match=r"broken\.h5"):
        of.browse(tmp_path, out)
    with pytest.raises(of.OutputError, match="none of the 1 raw experiments"):
        of.browse(raw / "long.h5", of.open_results(out).sel(experiment=["short"]))


def test_browse__without_ipywidgets(lab, monkeypatch):
    monkeypatch.delitem(sys.modules, "oectflow.pipeline.outputs.browse_view", raising=False)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(of.OectflowError, match=r"pip install 'oectflow\[notebook\]'"):
        of.browse(*lab)


def test_browse__results_without_fits(lab, tmp_path):
    raw, _ = lab
    of.extract(raw, {"gm": {"extractor": "transfer.gm_max", "input": "transfer"}}, tmp_path,
               progress=False)  # fmt: skip
    view = of.browse(raw, tmp_path)
    assert view.cycle.max == 0
    assert bytes(view.picture.value).startswith(b"\x89PNG")
