"""Write one deck per chip with python-pptx."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oectflow.atomic_write import atomic_write
from oectflow.errors import OectflowError, OutputError, StorageError
from oectflow.extras import extra
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.outputs.animate import animate_transfer, need_writer
from oectflow.pipeline.outputs.plots import plot_curves, plot_feature, plot_transfer
from oectflow.pipeline.outputs.plots.axes import need_matplotlib
from oectflow.pipeline.outputs.plots.transfer import to_log
from oectflow.pipeline.outputs.slides.plan import VARIANTS, SlidePlan, read_plan, usual_plan

if TYPE_CHECKING:
    import xarray as xr

#: Size of a 16:9 slide, in inches.
_WIDTH, _HEIGHT = 13.333, 7.5
_TOP, _MARGIN, _CAPTION = 1.0, 0.3, 0.3
_DPI = 130
#: Number of transients in one picture.
_MOST_TRACES = 6


def write_decks(
    results: xr.Dataset,
    out: Path,
    raw: Mapping[str, Experiment],
    features: Sequence[str],
    slides: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    title: str = "OECT measurements",
) -> Path:
    """Write one deck for each chip of some results.

    Parameters
    ----------
    results
        Results from :func:`oectflow.open_results`.
    out
        The file, if there is one chip.  If there are several, the name without its suffix is a
        folder: ``report.pptx`` makes ``report/<chip>.pptx``.
    raw
        The available raw experiments, by their id.
    features
        Names of the features that are drawn if ``slides`` is None.
    slides
        A YAML file that describes the slides, or its content.
    title
        Title of the first slide.

    Returns
    -------
    The file, or the folder.

    Raises
    ------
    OectflowError
        python-pptx or matplotlib is not installed, or ``slides`` is wrong.
    StorageError
        A deck cannot be written.  A deck is written whole or not at all.
    """
    need_matplotlib()
    with extra("pptx", "a deck of slides"):
        import pptx  # noqa: F401
    with_films = False
    with suppress(OutputError):
        need_writer(".mp4")
        with_films = bool(raw)
    plans = usual_plan(features, with_films=with_films) if slides is None else read_plan(slides)
    chips = list(dict.fromkeys(str(chip) for chip in results["chip_id"].values))
    paths = dict.fromkeys(chips, out)
    if len(chips) > 1:
        folder = out.with_suffix("")
        paths = {chip: folder / f"{_file_name(chip)}.pptx" for chip in chips}
    for chip, path in paths.items():
        part = results.isel(experiment=results["chip_id"].values == chip)
        deck = _Deck(part, chip, raw, title)
        for plan in plans:
            if plan.is_for(chip):
                deck.add(plan)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path, ".pptx") as temporary:
                deck.presentation.save(str(temporary))
        except OSError as error:
            raise StorageError(f"{path}: cannot be written ({error.strerror})") from error
    return out if len(chips) == 1 else out.with_suffix("")


def _file_name(chip: str) -> str:
    return re.sub(r"[^\w.-]", "_", chip) or "unknown"


class _Deck:
    """The slides of one chip.

    Parameters
    ----------
    results
        Results of the chip.
    chip, raw, title
        As for :func:`write_decks`.
    """

    def __init__(
        self, results: xr.Dataset, chip: str, raw: Mapping[str, Experiment], title: str
    ) -> None:
        from pptx import Presentation
        from pptx.util import Inches

        self._results, self._chip, self._raw = results, chip, raw
        self._inches = Inches
        self.presentation = Presentation()
        self.presentation.slide_width = Inches(_WIDTH)
        self.presentation.slide_height = Inches(_HEIGHT)
        first = self._blank()
        n = results.sizes["experiment"]
        self._write(first, title, 0.5, 2.6, _WIDTH - 1, 1.0, size=40, bold=True)
        about = f"chip {chip or 'unknown'}: {n} experiment" + "s" * (n > 1)
        self._write(first, about, 0.5, 3.8, _WIDTH - 1, 0.6, size=20)

    def add(self, plan: SlidePlan) -> None:
        """Add one slide."""
        params = plan.params
        slide = self._blank()
        heading = params.title.replace("{chip_id}", self._chip)
        self._write(slide, heading, 0.5, 0.25, _WIDTH - 1, 0.6, size=24, bold=True)
        if plan.builder == "feature_matrix":
            cells = list(self._of_feature(plan))
        else:
            cells = list(self._of_devices(plan))
        columns = min(params.columns, len(cells)) or 1
        rows = -(-len(cells) // columns) or 1
        width = (_WIDTH - 2 * _MARGIN) / columns
        height = (_HEIGHT - _TOP - _MARGIN) / rows
        for k, (caption, media) in enumerate(cells):
            x, y = _MARGIN + k % columns * width, _TOP + k // columns * height
            if isinstance(media, str):
                self._write(slide, media, x, y + height / 3, width, height / 3, size=12)
            else:
                self._place(slide, media, x, y, width, height - _CAPTION)
            self._write(slide, caption, x, y + height - _CAPTION, width, _CAPTION, size=11)

    def _of_devices(self, plan: SlidePlan) -> Iterator[tuple[str, Any]]:
        """Yield caption and picture of every device, or a text instead of the picture."""
        params = plan.params
        ids = [str(name) for name in self._results["experiment"].values]
        devices = [str(device) for device in self._results["device_id"].values]
        wanted = params.device_ids or list(dict.fromkeys(devices))
        for device in wanted:
            caption = params.caption_template.replace("{device_id}", device)
            tests = [name for name, of in zip(ids, devices, strict=True) if of == device]
            for test in tests or [""]:
                named = caption if len(tests) < 2 else f"{caption}, {test}"
                experiment = self._raw.get(test)
                try:
                    if experiment is None:
                        yield named, params.fallback_text
                    elif params.asset_id == "transfer_video":
                        yield named, _film(experiment)
                    else:
                        yield named, _png(_picture(experiment, params.asset_id))
                except OectflowError as error:
                    # A device without transients must not prevent the deck.
                    yield named, f"{params.fallback_text}: {error}"

    def _of_feature(self, plan: SlidePlan) -> Iterator[tuple[str, Any]]:
        params = plan.params
        if params.asset_id not in self._results:
            yield "", f"{params.fallback_text}: no feature {params.asset_id!r} in these results"
            return
        for one in params.variants:
            skip, normalise = VARIANTS[one.variant]
            part = self._results.isel(step=slice(skip, None))
            selection = _first_entry(part[params.asset_id])
            try:
                ax = plot_feature(part, params.asset_id, normalise=normalise, **selection)
            except OectflowError as error:
                yield one.title or one.variant, f"{params.fallback_text}: {error}"
                continue
            words = " ".join([one.title or one.variant, *map(str, selection.values())])
            yield words, _png(ax)

    def _blank(self) -> Any:
        return self.presentation.slides.add_slide(self.presentation.slide_layouts[6])

    def _write(
        self,
        slide: Any,
        text: str,
        x: float,
        y: float,
        width: float,
        height: float,
        *,
        size: int,
        bold: bool = False,
    ) -> None:
        from pptx.enum.text import PP_ALIGN
        from pptx.util import Pt

        box = slide.shapes.add_textbox(*map(self._inches, (x, y, width, height)))
        box.text_frame.word_wrap = True
        paragraph = box.text_frame.paragraphs[0]
        paragraph.alignment = PP_ALIGN.CENTER
        run = paragraph.add_run()
        run.text = text
        run.font.size, run.font.bold = Pt(size), bold

    def _place(
        self, slide: Any, media: bytes | tuple[bytes, bytes], x: float, y: float, w: float, h: float
    ) -> None:
        """Put a picture, or a film with its first picture, into a cell, in its proportions."""
        from PIL import Image

        picture = media if isinstance(media, bytes) else media[1]
        with Image.open(io.BytesIO(picture)) as image:
            across, up = image.size
        scale = min(w / across, h / up)
        width, height = across * scale, up * scale
        at = x + (w - width) / 2, y + (h - height) / 2, width, height
        box = [self._inches(value) for value in at]
        if isinstance(media, bytes):
            slide.shapes.add_picture(io.BytesIO(picture), *box)
        else:
            slide.shapes.add_movie(
                io.BytesIO(media[0]), *box, poster_frame_image=io.BytesIO(picture),
                mime_type="video/mp4",
            )  # fmt: skip


def _first_entry(values: xr.DataArray) -> dict[str, Any]:
    """Return the first entry of every axis with labels, such as the process or the direction."""
    return {
        str(dim): values[dim].values[0]
        for dim in values.dims
        if dim not in ("experiment", "step", "cycle") and dim in values.coords
    }


def _picture(experiment: Experiment, name: str) -> Any:
    """Return the axes of a picture of one device."""
    if name == "transfer_evolution_linear":
        return plot_transfer(experiment, right=None)
    if name == "transfer_evolution_log":
        ax = plot_transfer(experiment, right=None, marks=False)
        to_log(ax)
        return ax
    last = experiment.n_steps("transient") - 1
    every = sorted({round(k * last / (_MOST_TRACES - 1)) for k in range(_MOST_TRACES)})
    steps = {"transient_early": [0], "transient_late": [last], "transient_all": every}
    if name not in steps:
        raise OutputError(f"there is no picture {name!r}")
    return plot_curves(experiment, "transient", steps=steps[name])


def _png(ax: Any) -> bytes:
    buffer = io.BytesIO()
    ax.get_figure(root=True).savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def _film(experiment: Experiment) -> tuple[bytes, bytes]:
    """Return a film of the sweeps of one device, and its first picture."""
    with tempfile.TemporaryDirectory(prefix="oectflow-") as folder:
        path = Path(folder) / "film.mp4"
        animate_transfer(experiment, path, progress=False)
        return path.read_bytes(), _png(plot_transfer(experiment, steps=[0]))
