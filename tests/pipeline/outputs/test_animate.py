"""Films of transfer curves, read back picture by picture."""

from __future__ import annotations

import itertools
import shutil
import subprocess

import numpy as np
import pytest
from distributed import Client, LocalCluster
from PIL import Image

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs import animate


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    for i, polarity in enumerate("np"):
        device = simulate_device(
            i, polarity=polarity, n_transfer=5, n_transient=0, test_id=f"t:{i}", fade=0.1
        )
        device.write(folder / f"{i}.h5")
    return folder


def frames(path):
    with Image.open(path) as film:
        for k in range(film.n_frames):
            film.seek(k)
            yield np.asarray(film.convert("RGB"))


def test_gif__one_picture_per_step(lab, tmp_path):
    out = tmp_path / "one.gif"
    assert of.animate_transfer(lab / "0.h5", out, fps=5, progress=False) == [out]
    pictures = list(frames(out))
    assert len(pictures) == 5
    assert all(not np.array_equal(a, b) for a, b in itertools.pairwise(pictures))
    # The axes stay where they are: the ticks and labels at the left are the same in all.  Each
    # picture of a GIF has 256 colours of its own, so that greys differ by a few levels; moved by a
    # pixel they would differ by nearly 255.
    left = [picture[60:, :60].astype(int) for picture in pictures]
    assert left[0].min() < 20
    assert max(np.abs(left[0] - other).max() for other in left) < 40
    with Image.open(out) as film:
        assert film.info["duration"] == 200
    of.animate_transfer(lab / "0.h5", out, every=2, progress=False)
    assert len(list(frames(out))) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["one.gif"]


def test_mp4__is_a_film_that_players_know(lab, tmp_path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg on this machine")
    (out,) = of.animate_transfer(lab / "1.h5", tmp_path / "one.mp4", progress=False)
    shown = "stream=codec_name,pix_fmt,nb_frames,avg_frame_rate"
    found = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", shown, "-of", "csv=p=0", out],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert found.strip() == "h264,yuv420p,10/1,5"


def test_many__one_film_each_on_the_cluster(lab, tmp_path):
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        films = of.animate_transfer(lab, tmp_path / "all.gif", client=client, progress=False)
        assert [film.relative_to(tmp_path).as_posix() for film in films] == [
            "all/t_0.gif",
            "all/t_1.gif",
        ]
        assert all(len(list(frames(film))) == 5 for film in films)
    here = of.animate_transfer(lab, tmp_path / "here.gif", progress=False)
    for one, other in zip(films, here, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_without_ffmpeg__says_what_to_do(lab, tmp_path, monkeypatch):
    monkeypatch.setattr("matplotlib.animation.FFMpegWriter.isAvailable", lambda: False)
    with pytest.raises(of.OutputError, match=r"need the program ffmpeg.*name a file \.gif"):
        of.animate_transfer(lab / "0.h5", tmp_path / "x.mp4", progress=False)


@pytest.mark.parametrize(
    ("name", "options", "kind", "message"),
    [
        ("x.avi", {}, of.OutputError, r"a film ends in \.mp4 or \.gif"),
        ("x.gif", {"fps": 0}, of.OutputError, "expected 1 or more"),
        ("no/x.gif", {}, of.OutputError, "cannot be written"),
    ],
)
def test_what_cannot_be_made(lab, tmp_path, name, options, kind, message):
    with pytest.raises(kind, match=message):
        of.animate_transfer(lab / "0.h5", tmp_path / name, progress=False, **options)


def test_no_sweep__and_nothing_but_nan(tmp_path):
    simulate_device(0, n_transfer=0, n_transient=1, n_cycles=2).write(tmp_path / "a.h5")
    with pytest.raises(of.InputError, match="no transfer step"):
        of.animate_transfer(tmp_path / "a.h5", tmp_path / "x.gif", progress=False)
    device = simulate_device(0, n_transfer=2, n_transient=0, max_current=0.0, transfer_noise=0)
    device.write(tmp_path / "b.h5")
    with pytest.raises(of.InputError, match="no transfer step has a finite, nonzero current"):
        of.animate_transfer(tmp_path / "b.h5", tmp_path / "x.gif", progress=False)


def test_a_film_appears_whole_or_not_at_all(lab, tmp_path, monkeypatch):
    out = tmp_path / "x.gif"
    out.write_bytes(b"before")
    begun = animate.film(str(lab / "0.h5"), str(out), 10, 1)
    assert [next(begun), next(begun)] == [0, 1]
    begun.close()
    assert out.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["x.gif"]
