"""A stability report as slides."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.slides.plan import usual_plan

pptx = pytest.importorskip("pptx", reason="python-pptx is not installed")
pytest.importorskip("matplotlib").use("agg")


@pytest.fixture
def results(lab: Path) -> Path:
    of.extract(lab / "data" / "raw", "v2_transfer_basic", lab / "out", progress=False)
    return lab / "out"


def texts(slide: Any) -> list[str]:
    return [shape.text_frame.text for shape in slide.shapes if shape.has_text_frame]


def pictures(slide: Any) -> int:
    return sum(
        shape.shape_type == pptx.enum.shapes.MSO_SHAPE_TYPE.PICTURE for shape in slide.shapes
    )


def test_one_chip__one_deck(results: Path, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matplotlib.animation.FFMpegWriter.isAvailable", lambda: False)
    path = of.report(results, lab / "report.pptx", title="Stability", progress=False)
    assert path == lab / "report.pptx"
    slides = list(pptx.Presentation(str(path)).slides)
    assert texts(slides[0]) == ["Stability", "chip #20250804008: 2 experiments"]
    headings = [texts(slide)[0] for slide in slides[1:]]
    assert headings[:4] == [
        "Transfer curves – #20250804008",
        "Transfer curves, logarithmic – #20250804008",
        "First transient – #20250804008",
        "Last transient – #20250804008",
    ]
    assert "gm_max_forward – #20250804008" in headings[4:]
    for slide in slides[1:5]:
        assert pictures(slide) == 2
        assert {"Device 2", "Device 3"} <= set(texts(slide))
    # The feature as it is, and relative to its first value.
    assert [pictures(slide) for slide in slides[5:]] == [2] * (len(slides) - 5)


def test_yaml_of_the_package_in_use__says_which_slides(results: Path, lab: Path) -> None:
    params = {"device_ids": ["3", "9"], "columns": 3, "fallback_text": "Missing image"}
    scope = {"foreach": "chip", "chips": ["*"]}
    variants = [{"variant": "skip1_normalized", "title": "Skip1 + Norm"}]
    (lab / "slides.yaml").write_text(
        yaml.safe_dump(
            {
                "slides": [
                    {
                        "id": "all",
                        "builder": "image_grid",
                        "scope": scope,
                        "params": params | {"title": "All {chip_id}", "asset_id": "transient_all"},
                    },
                    {
                        "id": "gm",
                        "builder": "feature_matrix",
                        "params": {"asset_id": "gm_max_forward", "variants": variants},
                    },
                    {
                        "id": "old",
                        "builder": "feature_matrix",
                        "params": {"asset_id": "absI_max_raw", "variants": variants},
                    },
                    {
                        "id": "other",
                        "builder": "image_grid",
                        "scope": {"chips": ["#1*"]},
                        "params": {"asset_id": "transient_all"},
                    },
                ]
            }
        )
    )
    path = of.report(results, lab / "d.pptx", slides=lab / "slides.yaml", progress=False)
    _, every, gm, old = list(pptx.Presentation(str(path)).slides)
    assert texts(every) == ["All #20250804008", "Device 3", "Missing image", "Device 9"]
    assert (pictures(every), pictures(gm), pictures(old)) == (1, 1, 0)
    assert "Skip1 + Norm" in texts(gm)
    assert any("no feature 'absI_max_raw'" in text for text in texts(old))


def test_wrong_yaml__is_named_before_anything_is_drawn(results: Path, lab: Path) -> None:
    wrong = {"slides": [{"id": "x", "builder": "pie", "params": {"asset_id": "gm"}}]}
    with pytest.raises(of.ConfigError, match=r"slides\.0\.builder='pie'"):
        of.report(results, lab / "d.pptx", slides=wrong, progress=False)
    with pytest.raises(of.OectflowError, match=r"slides= is for a name that ends in \.pptx"):
        of.report(results, lab / "d.html", slides=wrong, progress=False)
    assert not (lab / "d.pptx").exists()


def test_several_chips__a_folder_of_decks(lab: Path) -> None:
    device = simulate_device(
        5, n_transfer=2, n_transient=0, n_points=41, chip_id="B/1", device_number="1", test_id="b"
    )
    device.write(lab / "data" / "raw" / "b.h5")
    of.extract(lab / "data" / "raw", "v2_quick_analysis", lab / "out", progress=False)
    slides = {
        "slides": [{"id": "t", "builder": "image_grid", "params": {"asset_id": "transient_early"}}]
    }
    made = of.report(lab / "out", lab / "r.pptx", slides=slides, progress=False)
    assert made == lab / "r"
    assert sorted(path.name for path in made.iterdir()) == ["B_1.pptx", "_20250804008.pptx"]
    _, early = list(pptx.Presentation(str(made / "B_1.pptx")).slides)
    # A device that was never switched is named, and the deck is there.
    assert any("has no transient step" in text for text in texts(early))


def test_films__one_of_each_device(results: Path, lab: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg on this machine")
    # Without a YAML they are there by themselves.
    assert "transfer_video" in [slide.id for slide in usual_plan([], with_films=True)]
    film = {"id": "film", "builder": "video_grid", "params": {"asset_id": "transfer_video"}}
    path = of.report(results, lab / "films.pptx", slides={"slides": [film]}, progress=False)
    _, films = list(pptx.Presentation(str(path)).slides)
    kinds = [shape.shape_type for shape in films.shapes]
    assert kinds.count(pptx.enum.shapes.MSO_SHAPE_TYPE.MEDIA) == 2
    assert {"Device 2", "Device 3"} <= set(texts(films))
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".mp4")]
        assert len(names) == 2
        # An MP4 begins with the length of its first box and the word ftyp.
        assert all(archive.read(name)[4:8] == b"ftyp" for name in names)
