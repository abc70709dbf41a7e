"""Another machine computes the same numbers, and says what is different where they are not."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import oectflow as of
from oectflow.errors import InputError, OutputError
from oectflow.pipeline.outputs.sink import (
    Results,
    read_columns,
    read_metadata,
    read_problems,
    read_variables,
    write_results,
)
from oectflow.pipeline.publishing import publish as module
from oectflow.pipeline.publishing.differences import compare_results

from .conftest import FEATURES, simulate


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Draw no report, which takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "report", lambda _, path, **__: path.write_text("a report"))
        yield


@pytest.fixture(scope="module")
def published(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    of.publish(made / "out", folder / "whole.zip", names="keep", with_raw=True, progress=False)
    of.publish(made / "out", folder / "plain", names="keep", progress=False)
    return folder


@pytest.fixture
def plain(published, tmp_path):
    shutil.copytree(published / "plain", tmp_path / "plain")
    return tmp_path / "plain"


def changed(path, change):
    """Write a result with other numbers, as another processor might have computed them."""
    metadata = read_metadata(path)
    variables = read_variables(metadata)
    columns = {k: v.copy() for k, v in read_columns(path, list(variables), metadata).items()}
    problems = read_problems(path)
    change(columns)
    identity = {key: metadata["identity"][key] for key in ("experiment_id", "chip_id", "device_id")}
    owners = {name: metadata["variables"][name]["feature"] for name in variables}
    kept = {k: v for k, v in metadata.items() if k not in ("format", "variables", "units")}
    steps = {"step_index": np.arange(metadata["n_rows"])}
    write_results(path, Results(identity | steps, columns, variables, owners, problems, kept))


def test_a_second_machine(published, tmp_path):
    """Another process and folder, and nothing but the zip."""
    shutil.copy(published / "whole.zip", tmp_path / "from the mail.zip")
    said = subprocess.run(
        [sys.executable, "-c", "from oectflow.pipeline.cli import main; main()",
         "rerun", "from the mail.zip", "--json", "-q"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr
    answer = json.loads(said.stdout)
    assert answer["ok"]
    assert answer["comparison"]["n_experiments"] == 5
    assert answer["comparison"]["n_values"] > 500
    assert sorted(p.name for p in tmp_path.iterdir()) == ["from the mail.zip"]


def test_raw_files_are_known_by_their_digests(made, plain, tmp_path):
    with pytest.raises(OutputError, match="5 raw files are not part of this publication"):
        of.rerun(plain, progress=False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for k, path in enumerate(sorted((made / "raw").iterdir())):
        shutil.copy(path, elsewhere / f"renamed {4 - k}.h5")
    found = of.rerun(plain, raw=elsewhere, progress=False)
    assert found.ok, str(found)
    assert str(found).startswith("identical: ")
    # One that is a single bit away is another file.
    one = elsewhere / "renamed 2.h5"
    data = bytearray(one.read_bytes())
    data[len(data) // 2] ^= 1
    one.write_bytes(data)
    found = of.rerun(plain, raw=elsewhere, progress=False)
    assert not found.ok
    assert found.n_experiments == 4
    assert found.missing == ("raw/#2 é.h5: no raw file with its size and SHA-256",)
    assert "not computed again: 1" in str(found)
    with pytest.raises(InputError):
        of.rerun(plain, raw=tmp_path / "nowhere", progress=False)


def test_another_number_is_found(made, plain):
    def one_bit_more(columns):
        columns["gm"][2] = np.nextafter(columns["gm"][2], 1)

    path = plain / "results" / "t2.parquet"
    changed(path, one_bit_more)
    found = of.rerun(plain, raw=made / "raw", progress=False)
    assert found.changed == ("results/t2.parquet: has another SHA-256",)
    (one,) = found.differences
    assert (one.experiment_id, one.variable) == ("t2", "gm")
    assert one.what.startswith("1 of 3 values, first at step 2: ")
    assert "e-16 of the value" in one.what


def test_every_change_of_a_bit_is_found(plain):
    """By brute force: each bit of some numbers."""
    path = plain / "results" / "t2.parquet"
    metadata = read_metadata(path)
    was = read_columns(path, ["gm"], metadata)["gm"]
    n = 0
    for bit in range(0, 64, 7):
        other = plain / "results" / f"bit{bit}.parquet"
        shutil.copy(path, other)

        def flip(columns, bit=bit):
            columns["gm"].view(np.uint64)[1] ^= np.uint64(1 << bit)

        changed(other, flip)
        n_values, found = compare_results((path, metadata), (other, read_metadata(other)))
        assert n_values > 50
        assert [one.variable for one in found] == ["gm"], bit
        n += 1
    assert n == 10
    assert np.isfinite(was).all()


def test_signs_of_zero_words_and_problems(plain):
    path, other = plain / "results" / "t2.parquet", plain / "results" / "other.parquet"

    def compared(change):
        shutil.copy(path, other)
        changed(other, change)
        then, now = read_metadata(path), read_metadata(other)
        return compare_results((path, then), (other, now))[1]

    def zero(sign):
        def change(columns):
            columns["gm"][0] = sign * 0.0

        return change

    def word(columns):
        columns["gm_status"][1] = 1

    assert compared(lambda columns: None) == []
    changed(path, zero(1))
    assert compared(zero(1)) == []
    assert [one.variable for one in compared(zero(-1))] == ["gm"]
    assert [one.variable for one in compared(word)] == ["gm_status"]
    metadata = dict(read_metadata(path))
    features = {**metadata["features"]}
    features["gm"] = {**features["gm"], "fingerprint": "0" * 32}
    _, found = compare_results((path, metadata), (path, {**metadata, "features": features}))
    assert [str(one) for one in found] == [
        "t2, gm: is defined otherwise here; use the version that computed it"
    ]


def test_what_was_changed_in_it_is_named(made, plain):
    (plain / "tables" / "steps.csv").write_text("nothing\n")
    (plain / "report.html").unlink()
    shutil.copy(plain / "results" / "t1.parquet", plain / "results" / "t9.parquet")
    (plain / "results" / "t0.parquet").write_bytes(b"PAR1 nothing")
    found = of.rerun(plain, raw=made / "raw", progress=False)
    assert set(found.changed) == {
        "report.html: is not there",
        "results/t0.parquet: has another SHA-256",
        "results/t9.parquet: is not in the manifest",
        "tables/steps.csv: has another SHA-256",
    }
    assert not found.ok


@pytest.mark.parametrize(
    "damage", ["", "{}", '{"@graph": 3}', '{"@graph": [{"@id": "#extraction"}]}', "[" * 100_000]
)
def test_what_is_no_publication_is_named(plain, made, damage):
    (plain / "ro-crate-metadata.json").write_text(damage)
    with pytest.raises(OutputError, match="is not as 'oectflow publish' writes it"):
        of.rerun(plain, raw=made / "raw", progress=False)


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(OutputError, match="cannot be read as a folder or zip"):
        of.rerun(tmp_path / "a.zip")
    with pytest.raises(OutputError, match="cannot be read"):
        of.rerun(tmp_path / "b.zip")
    (tmp_path / "c").mkdir()
    with pytest.raises(OutputError, match="no publication of oectflow"):
        of.rerun(tmp_path / "c")


def test_a_zip_writes_nothing_outside(published, tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as packed:
        packed.writestr("../../evil.txt", "evil")
        packed.writestr("/evil.txt", "evil")
    with pytest.raises(OutputError, match="no publication"):
        of.rerun(tmp_path / "evil.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.zip"]


def test_partitioned_and_expanded(lab):
    (lab / "raw").mkdir()
    simulate(lab / "raw", 0)
    # Of this one nobody knows the chip.
    simulate(lab / "raw", 1, chip_id="", device_number="")
    of.extract(
        lab / "raw", FEATURES, lab / "parts", progress=False, partition_by="chip_id",
        expand_multidim=True, samples={"W": 1e-4, "L": 1e-5, "d": 1e-7, "u_W": 1e-6},
    )  # fmt: skip
    of.publish(lab / "parts", lab / "a", progress=False)
    shutil.rmtree(lab / "parts")
    found = of.rerun(lab / "a", raw=lab / "raw", progress=False)
    assert found.ok, str(found)
    assert found.n_experiments == 2


def test_commands(made, tmp_path, monkeypatch, capsys):
    from oectflow.pipeline.cli import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["oectflow", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OECTFLOW_CATALOG", raising=False)
    code, _, err = run("publish", made / "out", "-q", "--out", "a.zip")
    assert code == 2
    assert "names of people" in err
    assert not list(tmp_path.iterdir())
    code, out, _ = run("publish", made / "out", "-q", "--out", "a.zip", "--names", "omit", "--json")
    assert code == 0
    assert json.loads(out)["n_experiments"] == 5
    code, out, _ = run("rerun", "a.zip", "--raw", made / "raw", "-q")
    assert (code, out.startswith("identical: ")) == (0, True)
    # At a terminal it asks, and stops where nobody says otherwise.
    for answer, status in (("\n", 2), ("keep\n", 0)):
        stdin = io.StringIO(answer)
        stdin.isatty = lambda: True
        monkeypatch.setattr(sys, "stdin", stdin)
        code, out, _ = run("publish", made / "out", "-q", "--out", "b.zip")
        assert (code, "Zoe-Example" in out) == (status, True)
        assert (tmp_path / "b.zip").exists() == (status == 0)
    (tmp_path / "empty").mkdir()
    shutil.copy(made / "raw" / "#0 é.h5", tmp_path / "empty")
    code, out, _ = run("rerun", "a.zip", "--raw", "empty", "-q")
    assert code == 1
    assert "not computed again: 4" in out
