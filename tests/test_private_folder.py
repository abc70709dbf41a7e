"""Folders that no other account can put anything into."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from oectflow.private_folder import NotPrivate, private_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs accounts of Unix")
needs_accounts = pytest.mark.skipif(
    os.name != "posix" or os.getuid() != 0 or shutil.which("runuser") is None,
    reason="needs root, to act as a second account",
)


@pytest.fixture(params=[0o022, 0o000, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def shared():
    """A folder like /tmp, in which everybody may write."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


def as_nobody(*command):
    return subprocess.run(["runuser", "-u", "nobody", "--", *map(str, command)], check=False)


def test_it_is_made_for_its_owner_alone(tmp_path, umask):
    folder = private_folder(tmp_path / "a" / "b")
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "kept").touch()
    private_folder(folder)
    assert (folder / "kept").exists()


def test_what_only_others_could_read_is_kept(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    (folder / "kept").touch(mode=0o644)
    (folder / "kept").chmod(0o644)
    private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "kept").exists()


@pytest.mark.parametrize(("mode", "of_file"), [(0o777, 0o644), (0o775, 0o600), (0o755, 0o666)])
def test_what_others_could_write_is_deleted(tmp_path, mode, of_file):
    folder = tmp_path / "a"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "code").touch()
    (folder / "below" / "code").chmod(of_file)
    folder.chmod(mode)
    private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not list(folder.iterdir())


def test_links_and_folders_that_others_can_replace_are_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(NotPrivate, match="is a link"):
        private_folder(tmp_path / "link")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(NotPrivate, match="chmod o-w"):
        private_folder(tmp_path / "open" / "a")


@needs_accounts
def test_a_folder_of_another_account_is_refused(shared):
    as_nobody("mkdir", "-m", "777", shared / "a")
    with pytest.raises(NotPrivate, match="belongs to another account"):
        private_folder(shared / "a")


@needs_accounts
def test_nothing_of_another_account_is_run_by_kernels(shared):
    """The folder of compiled kernels is of another account: it stays as it is."""
    as_nobody("mkdir", "-m", "777", shared / "cache")
    code = (
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    from oectflow.extractors.kernels import sweeps\n"
        "print([str(w.message) for w in caught if 'compiled anew' in str(w.message)])\n"
        "print(sweeps.sweep_extremes.stats.cache_path)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"NUMBA_CACHE_DIR": str(shared / "cache")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said, place = done.stdout.splitlines()
    # Whoever owns a folder may replace what lies in it.
    assert "cache" in said
    assert str(shared / "cache") not in place
