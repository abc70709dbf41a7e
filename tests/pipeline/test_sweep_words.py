"""Every front door says the same of a sweep that cannot be believed."""

from __future__ import annotations

import numpy as np
import pytest

import oectflow as of
from oectflow.extractors.base import get_extractor
from oectflow.measurement import Batch
from tests.extractors import faulty_sweeps

SET = {
    name: {"extractor": f"transfer.{name}", "input": "transfer", "params": params}
    for name, params in faulty_sweeps.FEATURES.items()
}


@pytest.fixture(scope="module")
def steps():
    """One sweep with each of the faults, two ways, with a word."""
    return [faulty_sweeps.faulty(fault, 3).step for fault in faulty_sweeps.FAULTS]


@pytest.fixture(scope="module")
def directly(steps):
    """Columns of each feature, as its extractor returns them for all sweeps at once."""
    batch = Batch.from_steps(steps)
    extractors = {name: get_extractor(f"transfer.{name}", p["params"]) for name, p in SET.items()}
    return {name: one.extract_batch(batch, one.params) for name, one in extractors.items()}


def assert_same(results, directly, keys=("value", "status", "stderr")):
    """Compare what a run stored, statuses in words, with the columns of the extractors."""
    for name, columns in directly.items():
        words = np.array(list(get_extractor(f"transfer.{name}").variables["status"].statuses))
        for key in keys:
            stored = results[name if key == "value" else f"{name}_{key}"].values
            want = words[columns[key]] if key == "status" else columns[key]
            np.testing.assert_array_equal(stored, want, err_msg=f"{name} {key}")


def test_words__one_by_one(steps, directly):
    for name, columns in directly.items():
        extractor = get_extractor(f"transfer.{name}", SET[name]["params"])
        for i, step in enumerate(steps):
            alone = extractor.extract_step(step)
            for key, column in columns.items():
                np.testing.assert_array_equal(alone[key], column[i], err_msg=f"{name} {key}")


@pytest.mark.filterwarnings("ignore:transfer .* more than any transistor:UserWarning")
def test_words__of_a_run_of_files(steps, directly, tmp_path):
    of.write_experiment(tmp_path / "raw" / "a.h5", transfer=steps)
    of.extract(tmp_path / "raw", SET, tmp_path / "out", progress=False)
    results = of.open_results(tmp_path / "out").load().isel(experiment=0)
    assert_same(results, directly)
    assert len({word for name in SET for word in np.unique(results[f"{name}_status"])}) > 4


@pytest.mark.filterwarnings("ignore:transfer .* more than any transistor:UserWarning")
def test_words__of_arrays_in_memory(steps, directly):
    results = of.features({"transfer": steps}, SET).results.isel(experiment=0)
    assert_same(results, directly)
