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


def test_browse__files_that_cannot_be_used(lab, tmp_path):
    raw, out = lab
    (tmp_path / "broken.h5").write_bytes(b"nothing")
    view = of.browse([raw, tmp_path], out)
    assert view.children[3].value == "raw files that cannot be used: 1"
    with pytest.raises(of.InputError, match=r"broken\.h5"):
        of.browse(tmp_path, out)
    with pytest.raises(of.OutputError, match="none of the 1 raw experiments"):
        of.browse(raw / "long.h5", of.open_results(out).sel(experiment=["short"]))


def test_browse__without_ipywidgets(lab, monkeypatch):
    monkeypatch.setitem(sys.modules, "oectflow.pipeline.outputs.browse_view", None)
    with pytest.raises(of.OectflowError, match=r"pip install 'oectflow\[notebook\]'"):
        of.browse(*lab)


def test_browse__results_without_fits(lab, tmp_path):
    raw, _ = lab
    of.extract(raw, {"gm": {"extractor": "transfer.gm_max", "input": "transfer"}}, tmp_path,
               progress=False)  # fmt: skip
    view = of.browse(raw, tmp_path)
    assert view.cycle.max == 0
    assert bytes(view.picture.value).startswith(b"\x89PNG")
