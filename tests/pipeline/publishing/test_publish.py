"""A publication is complete, valid, and nothing that was not meant to be in it is."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import unquote

import h5py
import numpy as np
import pytest
import rocrate
from rocrate.rocrate import ROCrate

import oectflow as of
import oectflow.pipeline.features as oectflow_features
from oectflow.errors import OutputError, ParameterError, StorageError
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.outputs.sink import read_metadata, read_problems
from oectflow.pipeline.publishing import publish as module
from oectflow.pipeline.publishing.contents import rebuilt
from oectflow.pipeline.publishing.names import Cleaner, NamesFound

from .conftest import FEATURES, simulate

VALIDATORS = os.environ.get("OECTFLOW_TEST_VALIDATORS")


@pytest.fixture(scope="module")
def crate(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "crate"
    of.publish(
        made / "out", folder, names="omit", title="Two chips", license="CC-BY-4.0",
        authors=["Grace Hopper 0000-0002-1825-0097"], progress=False,
    )  # fmt: skip
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Draw no report, which takes most of the time."""
    monkeypatch.setattr(module, "report", lambda _, path, **__: path.write_text("a report"))


def tables(crate, name):
    with (crate / "tables" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_in_it(crate):
    assert sorted(path.name for path in crate.iterdir()) == [
        "README.md", "environment.json", "features.yaml", "report.html", "requirements.txt",
        "results", "ro-crate-metadata.json", "tables",
    ]  # fmt: skip
    assert sorted(path.name for path in (crate / "results").glob("*.parquet")) == [
        f"t{k}.parquet" for k in range(5)
    ]
    assert "Two chips" in (crate / "report.html").read_text()
    known = json.loads((crate / "environment.json").read_text())
    assert known["oectflow"] == of.__version__
    assert known["results_computed_with"]["numpy"] == [np.__version__]
    assert f"numpy=={np.__version__}" in (crate / "requirements.txt").read_text().splitlines()


def test_the_manifest_names_every_file_with_its_digest(made, crate):
    read = ROCrate(crate)
    files = {unquote(one.id): one for one in read.data_entities if one.type == "File"}
    there = {p.relative_to(crate).as_posix(): p for p in crate.rglob("*") if p.is_file()}
    del there["ro-crate-metadata.json"]
    assert files.keys() == there.keys()
    for place, path in there.items():
        assert files[place]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert int(files[place]["contentSize"]) == path.stat().st_size
    run = read.dereference("#extraction")
    raws = [one for one in run["object"] if str(one["name"]).startswith("raw/")]
    assert len(raws) == 5
    for one in raws:
        path = made / "raw" / Path(one["name"]).name
        assert one["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert int(one["contentSize"]) == path.stat().st_size
    assert {one["name"] for one in run["result"]} >= {f"results/t{k}.parquet" for k in range(5)}
    assert read.root_dataset["author"][0]["name"] == "Grace Hopper"


def test_results_are_the_same_numbers(made, crate):
    was, now = of.open_results(made / "out", marks="ignore"), of.open_results(crate / "results")
    now = of.open_results(crate / "results", marks="ignore")
    assert set(was) == set(now)
    for name in was:
        np.testing.assert_array_equal(was[name].values, now[name].values)
        assert was[name].attrs == now[name].attrs


def test_marks_and_windows_hold_there(made, crate):
    windows = of.windows(crate / "results")
    assert windows.used.tolist() == [True]
    assert windows.who.tolist() == ["person 2"]
    was, now = of.marks(made / "out"), of.marks(crate / "results")
    same = ["id", "label", "experiment_id", "chip_id", "step", "when", "applies"]
    assert was[same].equals(now[same])
    assert of.open_results(crate / "results").gm_status.values[0, 1] == "marked"


def test_tables_are_the_results_with_units(crate):
    package = json.loads((crate / "tables/datapackage.json").read_text())
    schemas = {one["name"]: one["schema"] for one in package["resources"]}
    fields = {one["name"]: one for one in schemas["steps"]["fields"]}
    assert (fields["gm"]["unit"], fields["gm"]["type"]) == ("S", "number")
    assert (fields["step"]["type"], fields["gm_status"]["type"]) == ("integer", "string")
    assert "tau_on" in {one["name"] for one in schemas["cycles"]["fields"]}
    results = of.open_results(crate / "results").load()
    rows = tables(crate, "steps")
    assert len(rows) == 14
    for row in rows:
        one = results.sel(experiment=row["experiment_id"]).isel(step=int(row["step"]))
        value = float(one.gm)
        assert row["gm"] == ("" if np.isnan(value) else repr(value))
        assert row["gm_status"] == one.gm_status.item()
    assert rows[1]["gm_status"] == "marked"
    (mark, other) = tables(crate, "marks")
    assert (mark["label"], mark["experiment_id"], mark["step"]) == ("bad", "t0", "1")
    assert (other["label"], other["chip_id"]) == ("check", "C7")
    samples = {row["experiment_id"]: row["sample_W"] for row in tables(crate, "experiments")}
    assert samples == {"t0": "", "t1": "0.0001", "t2": "", "t3": "0.0001", "t4": "0.0002"}


@pytest.mark.skipif(VALIDATORS is None, reason="OECTFLOW_TEST_VALIDATORS names no Python with them")
@pytest.mark.parametrize("with_raw", [False, True])
@pytest.mark.usefixtures("quick")
def test_validators_take_it(made, crate, tmp_path, with_raw):
    if with_raw:
        crate = tmp_path / "crate"
        of.publish(made / "out", crate, names="keep", with_raw=True, progress=False)
    context = Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld"
    answers = {}
    for severity in ("REQUIRED", "RECOMMENDED"):
        script = Path(__file__).parent / "validate.py"
        said = subprocess.run(
            [VALIDATORS, script, crate, context, severity],
            check=True, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        answers[severity] = json.loads(said.stdout)
    assert answers["REQUIRED"]["crate"] == []
    assert answers["REQUIRED"]["checks"] > 30
    assert answers["REQUIRED"]["tables"] == []
    resources = ["experiments", "steps", "cycles", "marks", "windows", "problems"]
    assert answers["REQUIRED"]["resources"] == resources
    # What nobody knows: where authors work, who publishes, and a web address of oectflow.
    unknown = (
        "affiliation",
        "publisher",
        "absolute URI",
        "have a url",
        "author",
        "agent",
        "license",
    )
    for said in answers["RECOMMENDED"]["crate"]:
        assert any(word in said for word in unknown), said


@pytest.mark.skipif(VALIDATORS is None, reason="OECTFLOW_TEST_VALIDATORS names no Python with them")
def test_validators_say_no_where_something_is_wrong(crate, tmp_path):
    broken = tmp_path / "broken"
    subprocess.run(["cp", "-r", crate, broken], check=True)
    text = (broken / "ro-crate-metadata.json").read_text()
    text = text.replace('"instrument"', '"description2"')
    (broken / "ro-crate-metadata.json").write_text(text)
    table = broken / "tables" / "steps.csv"
    table.write_text(table.read_text().replace("t0,C6", "t99,C6", 1))
    context = Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld"
    said = subprocess.run(
        [VALIDATORS, Path(__file__).parent / "validate.py", broken, context, "REQUIRED"],
        check=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    answer = json.loads(said.stdout)
    assert any("instrument" in one for one in answer["crate"])
    assert answer["tables"]


@pytest.mark.usefixtures("quick")
def test_a_zip_is_the_same(made, crate, tmp_path):
    said = of.publish(made / "out", tmp_path / "a.zip", names="omit", progress=False)
    with zipfile.ZipFile(said.path) as packed:
        names = {name for name in packed.namelist() if not name.endswith("/")}
        assert packed.testzip() is None
        place = "tables/steps.csv"
        assert packed.read(place) == (crate / place).read_bytes()
    assert names == {p.relative_to(crate).as_posix() for p in crate.rglob("*") if p.is_file()}
    assert str(said).startswith(f"{said.path}: 5 experiments")


def everything(folder):
    """All bytes of a publication, and the texts that Parquet files may have compressed."""
    data = b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    names = " ".join(p.as_posix() for p in folder.rglob("*"))
    texts = []
    for path in (folder / "results").rglob("*.parquet"):
        texts.append(json.dumps(read_metadata(path)))
        texts += [problem.message for problem in read_problems(path)]
    return data + names.encode() + "".join(texts).encode()


@pytest.mark.usefixtures("quick")
def test_names_are_asked_for(made, tmp_path):
    with pytest.raises(NamesFound) as said:
        of.publish(made / "out", tmp_path / "a", progress=False)
    for part in (
        "Ada-Example: who has made 1 mark",
        "Zoe-Example: the reason of a mark",
        "--names omit",
    ):
        assert part in str(said.value)
    assert list(tmp_path.iterdir()) == []


def test_names_and_folders_are_left_out(made, crate):
    data = everything(crate)
    assert b"Grace Hopper" in data
    for name in (b"Ada-Example", b"Zoe-Example", b"ada-lab", str(made).encode()):
        assert name not in data
    (first, second) = tables(crate, "marks")
    assert (first["who"], first["reason"]) == ("person 1", "person 2 slipped")
    assert (second["who"], second["reason"]) == ("person 2", "see x.txt")


@pytest.mark.usefixtures("quick")
def test_names_are_kept_and_folders_are_not(made, tmp_path):
    of.publish(made / "out", tmp_path / "a", names="keep", progress=False)
    data = everything(tmp_path / "a")
    assert b"Zoe-Example slipped" in data
    assert str(made).encode() not in data


@pytest.mark.usefixtures("quick")
def test_names_in_raw_files(lab, tmp_path):
    (lab / "raw").mkdir()
    path = simulate(lab / "raw", 0)
    with h5py.File(path, "r+") as file:
        file.attrs["operator"] = "Zoe-Example"
    of.extract(lab / "raw", FEATURES, lab / "other", progress=False)
    with pytest.raises(NamesFound, match=r"Zoe-Example: attribute operator of raw/#0 é\.h5"):
        of.publish(lab / "other", lab / "a", with_raw=True, progress=False)
    with pytest.raises(OutputError, match="unchanged or not at all"):
        of.publish(lab / "other", lab / "a", with_raw=True, names="omit", progress=False)
    # Their numbers alone have no name in them.
    of.publish(lab / "other", lab / "a", progress=False)
    assert b"Zoe-Example" not in everything(lab / "a")


@pytest.mark.usefixtures("quick")
def test_names_in_samples(made, lab):
    samples = {"W": 1e-4, "L": 1e-5, "d": 1e-7, "operator": "Zoe-Example", "gate": "Ag/AgCl"}
    of.extract(made / "raw", FEATURES, lab / "other", samples=samples, progress=False)
    with pytest.raises(NamesFound, match="Zoe-Example: operator of the sample of t0"):
        of.publish(lab / "other", lab / "a", progress=False)
    of.publish(lab / "other", lab / "a", names="omit", progress=False)
    assert b"Zoe-Example" not in everything(lab / "a")
    assert {row["sample_gate"] for row in tables(lab / "a", "experiments")} == {"Ag/AgCl"}
    found = of.rerun(lab / "a", raw=made / "raw", progress=False)
    assert found.ok, str(found)


def test_paths_inside_of_files_are_no_folders_of_a_machine():
    clean = Cleaner([], [Path("/lab of ada/raw/x.h5")], omit=False)
    assert (
        clean.text("/lab of ada/raw/x.h5: /transfer/0: is empty") == "x.h5: /transfer/0: is empty"
    )
    assert clean.text("/home/ada/my/lab.py, A/V/s") == "lab.py, A/V/s"
    assert clean.text(r"C:\Users\ada\lab.py failed") == "lab.py failed"


@pytest.mark.parametrize("names", ["keep", "omit"])
@pytest.mark.usefixtures("quick")
def test_refused(made, lab, names):
    def refuse(match, folder=lab / "out", error=OutputError, **options):
        before = sorted(lab.rglob("*"))
        with pytest.raises(error, match=match):
            of.publish(folder, lab / "a", **{"names": names, "progress": False} | options)
        after = [p for p in sorted(lab.rglob("*")) if p.name != ".oectflow.lock"]
        assert after == [p for p in before if p.name != ".oectflow.lock"]

    refuse("there is no such folder", lab / "nothing")
    refuse("no results of oectflow here", made / "raw")
    refuse("5 of 5 results cannot be computed again", raw=simulate(lab, 9))
    refuse("expected a name", authors=[" 0000-0002-1825-0097"])
    result = lab / "out" / "t1.parquet"
    whole = result.read_bytes()
    result.write_bytes(whole[:-100])
    refuse("1 results are broken.*\n.*t1.parquet")
    middle = bytearray(whole)
    middle[100] ^= 1
    result.write_bytes(middle)
    refuse("t1.parquet.*cut or changed")
    result.write_bytes(whole)
    one = {"gm": {"extractor": "transfer.gm_max", "input": "transfer", "params": {"smooth": 5}}}
    of.extract(made / "raw" / "#1 é.h5", FEATURES | one, lab / "out", progress=False)
    refuse("several configurations: t0.parquet and t1.parquet: 'gm'.*is defined otherwise")
    result.unlink()
    less = {name: FEATURES[name] for name in ("gm", "tau")}
    of.extract(made / "raw" / "#1 é.h5", less, lab / "out", progress=False)
    refuse("one has 'cycles', 'gm_norm', 'gm_per_area', the other not")


@pytest.mark.usefixtures("quick")
def test_what_no_other_machine_can_compute_is_refused(made, lab):
    features = of.FeatureSet("mine").add("gm", extractor="transfer.gm_max", input="transfer")
    features.add("twice", func=lambda gm: 2 * gm, input="gm")
    of.extract(made / "raw", features, lab / "mine", progress=False)
    with pytest.raises(OutputError, match=r"another machine|Python function"):
        of.publish(lab / "mine", lab / "a", names="keep", progress=False)


@pytest.mark.parametrize(
    "path",
    sorted((Path(oectflow_features.__file__).parent / "bundled").glob("*.yaml")),
    ids=lambda path: path.stem,
)
def test_every_bundled_set_is_built_again_from_what_results_say(path):
    features = FeatureList.load(path)
    prints = features.fingerprints()
    described = {
        # As a file has it.
        name: json.loads(json.dumps(one.describe() | {"fingerprint": prints[name]}))
        for name, one in features.features.items()
    }
    again = rebuilt(Path("out"), {"config": features.name, "features": described})
    assert again.fingerprints() == prints
    now = {name: one.describe() for name, one in again.features.items()}
    assert now == {name: one.describe() for name, one in features.features.items()}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("change", ["chosen", "taken back"])
def test_windows_that_were_not_used_are_refused(lab, change):
    if change == "chosen":
        where = {"step": 0, "cycle": 1, "phase": "off", "begin": 0.3, "end": 0.38}
        of.set_window(lab / "out", "t0", **where)
    else:
        of.unmark(lab / "out", of.windows(lab / "out").id[0])
    with pytest.raises(OutputError, match=r"t[02]: windows were chosen by hand, or taken back"):
        of.publish(lab / "out", lab / "a", names="keep", progress=False)


@pytest.mark.usefixtures("quick")
def test_raw_files_that_changed_are_refused(lab):
    (lab / "raw").mkdir()
    path = simulate(lab / "raw", 0)
    of.extract(lab / "raw", FEATURES, lab / "other", progress=False)
    with h5py.File(path, "r+") as file:
        file.attrs["note"] = "changed"
    with pytest.raises(OutputError, match="has changed since its features were computed"):
        of.publish(lab / "other", lab / "a", names="keep", progress=False)
    path.unlink()
    with pytest.raises(OutputError, match=r"is not there any more; name the folder with raw="):
        of.publish(lab / "other", lab / "a", names="keep", progress=False)


@pytest.mark.parametrize("name", ["a.zip", "a"])
@pytest.mark.usefixtures("quick")
def test_whole_or_not_at_all(made, tmp_path, monkeypatch, name):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_manifest", fail)
        with pytest.raises(StorageError, match="No space left"):
            of.publish(made / "out", tmp_path / name, names="keep", progress=False)
    assert list(tmp_path.iterdir()) == []
    of.publish(made / "out", tmp_path / name, names="keep", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(OutputError, match="exists; choose another name"):
        of.publish(made / "out", tmp_path / name, names="keep", progress=False)
    with pytest.raises(StorageError, match="there is no folder"):
        of.publish(made / "out", tmp_path / "b" / name, names="keep", progress=False)
    with pytest.raises(ParameterError, match="names='no'"):
        of.publish(made / "out", tmp_path / "c", names="no", progress=False)


@pytest.mark.usefixtures("quick")
def test_tables_too_long_are_named(made, tmp_path, monkeypatch):
    monkeypatch.setattr("oectflow.pipeline.publishing.tables.MOST_ROWS", 20)
    said = of.publish(made / "out", tmp_path / "a", names="keep", progress=False)
    assert not (tmp_path / "a/tables/cycles.csv").exists()
    assert any("cycles: up to 60 rows" in note for note in said.notes)
    assert "cycles: up to 60 rows" in (tmp_path / "a/README.md").read_text()


@pytest.mark.usefixtures("quick")
def test_without_rocrate_it_says_what_to_install(made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rocrate", None)
    with pytest.raises(of.OectflowError, match="oectflow\\[publish\\]"):
        of.publish(made / "out", tmp_path / "a", names="keep", progress=False)
