import numpy as np
import pytest

import oectflow as of
from oectflow.errors import OectflowError
from oectflow.measurement import Measurement, Step
from oectflow.pipeline.inputs.raw_format import write_measurement


@pytest.fixture
def experiment(tmp_path):
    Vd = np.linspace(0, -0.6, 31)
    steps = [Step("output", {"Vd": Vd, "Id": Vd * k * 1e-3}, {"Vg": -0.2 * k}) for k in (1, 2, 3)]
    spectrum = {name: np.geomspace(1, 10, 5) for name in ("frequency", "Z_real", "Z_imag")}
    steps += [Step("impedance", spectrum)] * 2
    return of.Experiment(write_measurement(tmp_path / "a.h5", Measurement({}, steps)))


def test_plot_curves__one_line_for_each_gate_voltage(experiment):
    ax = of.plot_curves(experiment, "output")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "Vg = −200 mV",
        "Vg = −400 mV",
        "Vg = −600 mV",
    ]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), experiment.step("output", 1)["Id"])
    assert "Vd" in ax.get_xlabel()


def test_plot_curves__by_step_where_no_number_tells_them_apart(experiment):
    ax = of.plot_curves(experiment, "impedance", steps=[1], y="Z_real")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["step 1"]


@pytest.mark.parametrize(
    ("kind", "y", "message"),
    [
        ("outputs", "", "did you mean 'output'"),
        ("transient", "", "has no transient step"),
        ("output", "Ix", "no array 'Ix'"),
        ("output", "Ig", "Ig was not recorded"),
    ],
)
def test_plot_curves__says_what_is_wrong(experiment, kind, y, message):
    with pytest.raises(OectflowError, match=message):
        of.plot_curves(experiment, kind, y=y)
