"""A kind of measurement that a package announces works everywhere, with no file of ours touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import oectflow as of
from oectflow.extractors import base
from oectflow.measurement import Measurement, Step
from oectflow.pipeline.inputs.raw_format import write_measurement

PACKAGE = '''
import numpy as np
import oectflow as of
from oectflow.measurement import Array, Kind, Value, register_kind

register_kind(Kind(
    "noise", "Noise spectra",
    arrays=(
        Array("f", "Hz", "frequency"),
        Array("S_Id", "A^2/Hz", "power density of Id"),
        Array("Vd", "V", "drain voltage as measured", "drain_voltage", ("Vd_measured",)),
    ),
    values=(Value("Vd", "V", "drain voltage", ("drainVoltage",), 1000),),
    x="f", y="S_Id", curve_by="Vd",
))

@of.register("noise.power")
class Power(of.BaseExtractor):
    """Integral of the power density."""
    source = "noise"
    unit = "A^2"
    description = "power of the noise"
    def extract_single_step(self, step_data, params):
        return np.trapezoid(step_data["S_Id"], step_data["f"])
'''

COMMAND = "from oectflow.pipeline.cli import main; main()"
USE = """
import sys
from pathlib import Path
import numpy as np
import oectflow as of
from oectflow.measurement import Measurement, Step, kinds
from oectflow.pipeline.inputs.raw_format import write_measurement

if __name__ == "__main__":
    assert list(kinds()) == ["transfer", "output", "transient", "impedance", "noise"]
    f = np.arange(5.0)
    steps = [
        Step("noise", {"f": f, "S_Id": k * f}, info={"parameters": {"drainVoltage": -100 * k}})
        for k in (1, 2)
    ]
    Path("raw").mkdir()
    write_measurement("raw/a.h5", Measurement({"test_id": "test_a"}, steps))
    features = {"features": [{"name": "power", "extractor": "noise.power", "input": "noise"}]}
    print(of.extract("raw", features, "out", progress=False))
    found = of.open_results("out").isel(experiment=0)
    assert found["power"].values.tolist() == [8.0, 16.0], found["power"].values
    assert found["noise_Vd"].values.tolist() == [-0.1, -0.2]
    assert found["noise_Vd"].attrs["units"] == "V"
    of.plot_curves(of.Experiment("raw/a.h5"), "noise")
    of.report("out", "report.html", raw="raw", progress=False)
    assert "Noise spectra" in Path("report.html").read_text(encoding="utf-8")
"""


def test_a_kind_of_an_installed_package(tmp_path: Path) -> None:
    (tmp_path / "noise_kind.py").write_text(PACKAGE)
    info = tmp_path / "noise_kind-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: noise-kind\nVersion: 1.0\n")
    points = "[oectflow.kinds]\nnoise = noise_kind\n[oectflow.extractors]\nnoise = noise_kind\n"
    (info / "entry_points.txt").write_text(points)
    (tmp_path / "use.py").write_text(USE)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "use.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = subprocess.run(
        [sys.executable, "-c", COMMAND, "show", "raw/a.h5"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "noise steps" in shown.stdout
    assert "-0.2" in shown.stdout


def test_impedance__needs_nothing_but_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_registry", dict(base._registry))

    @of.register("impedance.modulus_at_lowest")
    class Modulus(of.BaseExtractor):
        source = "impedance"
        unit = "Ω"

        def extract_single_step(self, step_data, params):
            return np.hypot(step_data["Z_real"][0], step_data["Z_imag"][0])

    f = np.geomspace(1, 1e5, 26)
    Z = 100 + 1 / (2j * np.pi * f * 1e-6)
    spectrum = {"frequency": f, "Z_real": Z.real, "Z_imag": Z.imag}
    steps = [Step("impedance", spectrum, {"Vdc": bias}) for bias in (0.0, -0.2)]
    write_measurement(tmp_path / "a.h5", Measurement({"test_id": "test_a"}, steps))
    features = {
        "features": [{"name": "Z", "extractor": Modulus.name, "input": "impedance"}],
        "data_type": "impedance",
    }
    of.extract(tmp_path / "a.h5", features, tmp_path / "out", progress=False)
    found = of.open_results(tmp_path / "out").isel(experiment=0)
    np.testing.assert_allclose(found["Z"], abs(Z[0]), rtol=1e-15)
    np.testing.assert_array_equal(found["impedance_Vdc"], [0.0, -0.2])
