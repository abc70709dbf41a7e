"""The slides of a deck: read from YAML, or the usual ones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from oectflow.config_file import read_config_file
from oectflow.errors import ConfigError

#: Pictures of one device; any other ``asset_id`` is the name of a feature.
PICTURES = (
    *("transfer_evolution_linear", "transfer_evolution_log"),
    *("transient_all", "transient_early", "transient_late", "transfer_video"),
)
#: How a feature is drawn, by name, and the number of steps that are left out at the beginning.
VARIANTS = {
    "raw": (0, False),
    "skip1": (1, False),
    "skip5": (5, False),
    "normalized": (0, True),
    "skip1_normalized": (1, True),
    "skip5_normalized": (5, True),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Variant(_Strict):
    """One picture of a feature."""

    variant: Literal["raw", "skip1", "skip5", "normalized", "skip1_normalized", "skip5_normalized"]
    title: str = ""


class SlideParams(_Strict):
    """The contents of a slide.

    Attributes
    ----------
    title
        ``{chip_id}`` stands for the chip.
    asset_id
        One of ``PICTURES``, or a feature.
    device_ids
        The devices, in this order; None: all.
    columns
        Number of pictures side by side.
    caption_template
        Caption below a picture; ``{device_id}`` stands for the device.
    fallback_text
        Text in place of a missing picture.
    variants
        Variants of a feature.
    """

    title: str = ""
    asset_id: str
    device_ids: list[str] | None = None
    columns: int = Field(default=3, ge=1, le=6)
    caption_template: str = "Device {device_id}"
    fallback_text: str = "no data"
    variants: list[Variant] = [Variant(variant="raw"), Variant(variant="normalized")]


class Scope(_Strict):
    """The chips for which a slide is made: names, or ``*`` for all."""

    foreach: Literal["chip"] = "chip"
    chips: list[str] = ["*"]


class SlidePlan(_Strict):
    """One slide."""

    id: str
    builder: Literal["image_grid", "video_grid", "feature_matrix"]
    params: SlideParams
    scope: Scope = Scope()

    def is_for(self, chip_id: str) -> bool:
        """Whether the deck of a chip has this slide."""
        return any(fnmatchcase(chip_id, pattern) for pattern in self.scope.chips)


class _Plans(_Strict):
    slides: list[SlidePlan]


def read_plan(source: str | os.PathLike[str] | Mapping[str, Any]) -> list[SlidePlan]:
    """Return the slides under ``slides`` in a YAML file, or in its content.

    Raises
    ------
    ConfigError
        It cannot be read, or something in it is wrong; the message names it.
    """
    content = source if isinstance(source, Mapping) else read_config_file(Path(source), ConfigError)
    where = "slides" if isinstance(source, Mapping) else str(source)
    try:
        return _Plans.model_validate(content).slides
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{where}: {place}={first['input']!r:.60}: {first['msg']}") from None


def usual_plan(features: Sequence[str], *, with_films: bool) -> list[SlidePlan]:
    """Return the slides of a deck: sweeps, transients, films where they can be made, features."""
    grids = [
        ("transfer_evolution_linear", "Transfer curves – {chip_id}"),
        ("transfer_evolution_log", "Transfer curves, logarithmic – {chip_id}"),
        ("transient_early", "First transient – {chip_id}"),
        ("transient_late", "Last transient – {chip_id}"),
    ]
    plans = [
        SlidePlan(id=name, builder="image_grid", params=SlideParams(title=title, asset_id=name))
        for name, title in grids
    ]
    if with_films:
        film = SlideParams(title="Films of the sweeps – {chip_id}", asset_id="transfer_video")
        plans.append(SlidePlan(id="transfer_video", builder="video_grid", params=film))
    for name in features:
        params = SlideParams(title=f"{name} – {{chip_id}}", asset_id=name, columns=2)
        plans.append(SlidePlan(id=name, builder="feature_matrix", params=params))
    return plans
