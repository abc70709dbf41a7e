"""What is sent on, what others may have put there, and file systems that cannot do everything."""

import csv
import errno
import io
import json
import os
import re
import shutil
import traceback
from contextlib import contextmanager
from pathlib import Path

import h5py
import pytest

import oectflow as of
from oectflow.atomic_write import atomic_write
from oectflow.cells import plain_cell
from oectflow.errors import CatalogError, StorageError, UnreadableFile
from oectflow.pipeline.cli import main
from oectflow.pipeline.execution.driving import lock
from oectflow.pipeline.execution.driving.cost_file import load_costs, save_costs
from oectflow.pipeline.inputs.catalog import Catalog
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.results import DamagedResultWarning

PEAK = {"peak": {"extractor": "transient.peak_current", "input": "transient"}}
FORMULA = '=HYPERLINK("http://elsewhere","x")'


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "secret folder" / "raw"
    folder.mkdir(parents=True)
    for i in range(2):
        simulate_device(
            i, n_transfer=2, n_transient=2, n_points=21, n_cycles=3, test_id=f"test_{i}"
        ).write(folder / f"{i}.h5")
    return folder


@pytest.mark.parametrize(
    "begin",
    ["=", "+", "-", "@", "\t", "\r", "\n", " =", "\u00a0=", "\n@", "＝", "＠"],
)
def test_no_cell_begins_like_a_formula(begin):
    assert plain_cell(f"{begin}1+1").startswith("'")


@pytest.mark.parametrize("separator", [";", "\t", "\r\n"])
def test_no_cell_of_a_spreadsheet_with_other_separators_begins_like_a_formula(separator):
    cells = plain_cell(f"chip{separator}=1+1").split(separator)
    assert not any(cell.startswith("=") for cell in cells)
    assert plain_cell(f"chip{separator}-1.5") == f"chip{separator}-1.5"


@pytest.mark.parametrize("value", ["-1.5", "+3e-9", "#chip", "", 3, -2.5, None])
def test_other_cells_stay_as_they_are(value):
    assert plain_cell(value) == value


def test_a_report_names_no_folder_and_runs_nothing(raw, tmp_path):
    with h5py.File(raw / "0.h5", "r+") as file:
        file.attrs["chip_id"] = FORMULA
    (raw / "damaged.h5").write_bytes(b"x")
    run = of.extract(raw, PEAK, tmp_path / "secret folder" / "out", progress=False)
    path = of.report(
        tmp_path / "secret folder" / "out", tmp_path / "r.html", raw=raw, run=run, progress=False
    )
    text = path.read_text()
    assert "secret folder" not in text
    assert "damaged.h5" in text
    import base64

    (table,) = re.findall(r"data:text/csv;charset=utf-8;base64,([^\"]+)", text)
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(table).decode())))
    assert {row["chip_id"] for row in rows} >= {f"'{FORMULA}"}


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"format": 2, "costs": {"a": {"1": 1e999}}}', "9" * 5000]
)
def test_a_cost_book_of_a_stranger(raw, tmp_path, text):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".oectflow-costs.json").write_text(text)
    assert of.extract(raw, PEAK, tmp_path / "out", progress=False).ok


def test_a_cost_book_that_is_a_link_is_replaced_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".oectflow-costs.json").symlink_to(victim)
    book = load_costs(tmp_path, {})
    book.learn("write", 1.0)
    save_costs(book, tmp_path)
    assert victim.read_text() == "precious"
    assert json.loads((tmp_path / ".oectflow-costs.json").read_text())["costs"]


def test_a_temporary_file_follows_no_link(tmp_path, monkeypatch):
    class Known:
        hex = "0" * 32

    victim = tmp_path / "victim"
    (tmp_path / ".x.0000000000000000.tmp").symlink_to(victim)
    monkeypatch.setattr("oectflow.atomic_write.uuid.uuid4", lambda: Known)
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "x") as path:
        path.write_text("secret")
    assert not victim.exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(raw, tmp_path, monkeypatch, code):
    def acquire(self, **options):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock.FileLock, "acquire", acquire)
    with pytest.warns(UserWarning, match="its file system has no locks"):
        assert of.extract(raw, PEAK, tmp_path / "out", progress=False).ok


@pytest.fixture
def second_account():
    """Be nobody, in the group of the first one, with the usual umask."""
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("a second account needs root")
    group, groups, umask = os.getegid(), os.getgroups(), os.umask(0o022)

    @contextmanager
    def nobody():
        os.setgroups([])
        os.setegid(12345)
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(group)
            os.setgroups(groups)

    yield nobody
    os.umask(umask)


def test_a_folder_that_a_group_writes(raw, tmp_path, second_account):
    for folder in (raw, *raw.parents):
        if folder.is_relative_to(tmp_path.parent.parent):
            folder.chmod(0o755)
    out = tmp_path / "out"
    out.mkdir()
    os.chown(out, 0, 12345)
    out.chmod(0o2775)
    first, second = (raw / f"{i}.h5" for i in range(2))
    assert of.extract(first, PEAK, out, progress=False).ok
    with second_account():
        assert of.extract(raw, PEAK, out, progress=False).counts == {"unchanged": 1, "done": 1}
        # What the first one has written may be replaced.
        assert of.extract(raw, PEAK, out, force=True, progress=False).counts == {"done": 2}
    assert of.extract(second, PEAK, out, force=True, progress=False).ok


@pytest.mark.parametrize("has_lock", [False, True])
def test_a_folder_that_the_group_may_not_write__what_to_set(
    raw, tmp_path, second_account, has_lock
):
    out = tmp_path / "out"
    out.mkdir(mode=0o755)
    os.chown(out, 0, 12345)
    for folder in (raw, *raw.parents):
        if folder.is_relative_to(tmp_path.parent.parent):
            folder.chmod(0o755)
    if has_lock:
        of.extract(raw, PEAK, out, progress=False)
    with second_account(), pytest.raises(StorageError) as found:
        of.extract(raw, PEAK, out, progress=False)
    assert f"belongs to root and has the mode {'644' if has_lock else '755'}" in str(found.value)
    assert f"chmod -R g+rwX {out}" in str(found.value)


def test_a_file_that_is_being_written(raw, tmp_path):
    path = shutil.copy(raw / "0.h5", tmp_path / "growing.h5")
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["format_version"] = "2.0_new_storage"
        file.swmr_mode = True
        file.flush()
        copy = shutil.copy(path, tmp_path / "copy.h5")
    with pytest.raises(UnreadableFile, match="is being written; run again when it is complete"):
        of.Experiment(copy)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://user:geheim@127.0.0.1:1/db?connect_timeout=1",
        "postgresql+psycopg://user@127.0.0.1:1/db?password=geheim&connect_timeout=1",
        "sqlite:///a.db?key=geheim",
        "mysql://user:geheim@host/db?password=geheim",
        "postgresql://user:geheim@host:geheim/db",
    ],
)
def test_secrets_of_urls_are_in_no_message(url, monkeypatch, capsys):
    with pytest.raises(CatalogError) as found:
        Catalog(url)
    assert "geheim" not in "".join(traceback.format_exception(found.value))
    for command in ("scan", "status", "search"):
        monkeypatch.setattr("sys.argv", ["oectflow", command, "--catalog", url])
        with pytest.raises(SystemExit):
            main()
    said = capsys.readouterr()
    assert "geheim" not in said.out + said.err


def test_what_cannot_be_opened_in_a_folder_is_named(raw, tmp_path):
    (raw / "gone.h5").symlink_to(tmp_path / "gone")
    (raw / "circle.h5").symlink_to(raw / "circle.h5")
    os.mkfifo(raw / "pipe.h5")
    report = of.extract(raw, PEAK, tmp_path / "out", progress=False)
    assert report.counts == {"done": 2, "failed": 3}
    reasons = "\n".join(record.reason for record in report.failed)
    assert f"{raw / 'gone.h5'}: is a link to {tmp_path / 'gone'}, which is not there" in reasons
    assert f"{raw / 'circle.h5'}: is a link that leads to itself" in reasons
    assert f"{raw / 'pipe.h5'}: is no file with content" in reasons


def test_a_folder_that_cannot_be_listed_is_named(raw, tmp_path, monkeypatch):
    hidden = raw / "hidden"
    hidden.mkdir()
    scandir = os.scandir

    def refused(path):
        if Path(path) == hidden:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    report = of.extract(raw, PEAK, tmp_path / "out", progress=False)
    assert report.counts == {"done": 2, "failed": 1}
    assert f"{hidden}: no permission to read it" in report.failed[0].reason


def test_results_that_cannot_be_opened_stop_no_others(raw, tmp_path):
    out = tmp_path / "out"
    of.extract(raw, PEAK, out, progress=False)
    (out / "test_0.parquet").unlink()
    (out / "test_0.parquet").mkdir()
    os.mkfifo(out / "pipe.parquet")
    report = of.extract(raw, PEAK, out, progress=False)
    assert report.counts == {"failed": 1, "unchanged": 1}
    assert "test_0.parquet: cannot be read (it is no file with content)" in report.failed[0].reason
    with pytest.warns(DamagedResultWarning, match=r"pipe\.parquet(.|\n)*test_0\.parquet"):
        assert of.open_results(out)["experiment"].values.tolist() == ["test_1"]
