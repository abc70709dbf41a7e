"""The packages in use until now beside ours, on the same files.

They live in an environment of their own; ``OECTFLOW_TEST_INFRA`` names its Python, in which
oect-infra 3.3.1 is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import oectflow as of
from oectflow.extractors.oect_transfer import BatchTransfer

pytestmark = pytest.mark.old_packages
POINTS = ("absgm_max", "gm_max", "gm_min", "absI_max", "I_max", "absI_min", "I_min", "Von")

#: Prints what the old package says of every file, as JSON.
ASK = """
import json, sys
from infra.experiment import Experiment
from infra.oect_transfer import BatchTransfer
from infra.features_v2 import FeatureSet
import infra.features_v2.extractors.transfer, infra.features_v2.extractors.transient
found = {}
for path in sys.argv[1:]:
    experiment = Experiment(path)
    data = experiment.get_transfer_all_measurement()['measurement_data']
    batch = BatchTransfer(data, device_type='N')
    about = {'summary': experiment.get_data_summary(), 'attributes': experiment.to_dict()}
    for name in %r:
        point = getattr(batch, name)
        for side in ('raw', 'forward', 'reverse'):
            about[name + ' ' + side] = getattr(point, side).tolist()
            about[name + ' ' + side + ' at'] = getattr(point, side + '_coords').tolist()
    features = FeatureSet(experiment=experiment)
    features.add('peak', extractor='transient.peak_current', input='transient')
    features.add('gm', extractor='transfer.gm_max', input='transfer',
                 params={'direction': 'forward', 'device_type': 'N'})
    features.add('absI', extractor='transfer.absI_max', input='transfer')
    features.add('relative', func=lambda gm: gm / gm.max(), input='gm', output_shape=('n_steps',))
    about['features'] = {k: v.tolist() for k, v in features.compute().items()
                         if k not in ('transfer', 'transient')}
    found[path] = about
print('ANSWER' + json.dumps(found, default=str))
""" % (POINTS,)  # noqa: UP031 - braces are the script's


def test_same_values_where_the_definition_is_the_same(ask_old: Any, lab: Path) -> None:
    paths = sorted((lab / "data" / "raw").glob("*.h5"))
    answers = ask_old("OECTFLOW_TEST_INFRA", "oect-infra 3.3.1", ASK, *map(str, paths))
    for path, theirs in answers.items():
        experiment = of.Experiment(path)
        data = experiment.get_transfer_all_measurement()["measurement_data"]
        ours = BatchTransfer(data, device_type="N")
        scale = {"gm": np.abs(ours.gm.raw).max(), "Id": np.abs(data[:, 1]).max()}
        for name in POINTS:
            for side in ("raw", "forward", "reverse"):
                atol = 1e-12 * scale["gm" if "gm" in name else "Id"]
                np.testing.assert_allclose(
                    getattr(getattr(ours, name), side),
                    theirs[f"{name} {side}"],
                    rtol=1e-12,
                    atol=atol,
                    err_msg=f"{name} {side}",
                )
                np.testing.assert_allclose(
                    getattr(getattr(ours, name), f"{side}_coords"),
                    theirs[f"{name} {side} at"],
                    rtol=1e-12,
                )
        summary = experiment.get_data_summary()
        for kind in ("transfer_data", "transient_data"):
            assert summary[kind]["step_count"] == theirs["summary"][kind]["step_count"]
        for name in ("test_id", "chip_id", "device_number", "status"):
            assert experiment.to_dict()[name] == theirs["attributes"][name]
        features = of.FeatureSet(experiment=experiment)
        features.add("peak", extractor="transient.peak_current", input="transient")
        features.add(
            "gm", extractor="transfer.gm_max", input="transfer",
            params={"direction": "forward", "device_type": "N"},
        )  # fmt: skip
        features.add("absI", extractor="transfer.absI_max", input="transfer")
        features.add("relative", func=lambda gm: gm / gm.max(), input="gm")
        values = features.compute()
        for name, expected in theirs["features"].items():
            # The old package keeps single precision.
            np.testing.assert_allclose(values[name], expected, rtol=1e-6, err_msg=name)
