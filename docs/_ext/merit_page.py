"""The page of the figures of merit: everything of the bundled set, and a picture of its methods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from feature_pages import escape, link_doi, prose, unit
from feature_pictures import BLUE, GREEN, GREY, ORANGE
from matplotlib.figure import Figure

import oectflow as of
from oectflow.extractors.base import COMMON_STATUSES, BaseExtractor, get_extractor

SET = "figures_of_merit"
_METHODS = {
    "linear": BLUE,
    "sqrt": GREEN,
    "second_derivative": ORANGE,
    "Y_function": "#CC79A7",
    "ratio": "#D55E00",
}


def merit_page(picture: str) -> str:
    """Return the Markdown page of the figures of merit.

    Parameters
    ----------
    picture
        Path of the picture, seen from the page.
    """
    parts = [
        "# Figures of merit",
        "What a paper reports of transfer and output curves, as the set "
        f"`{SET}` computes it: formula, unit, reference, standard errors and status words. W, L, d "
        "and Vd come from a [table of devices](../howto/samples.md). The notebook *Figures of "
        "merit of a paper* goes from a folder to the table and the figures of a paper. Of several "
        "devices together, with intervals: [across devices](../howto/across-devices.md).",
        f'```python\nof.extract("raw/", "{SET}", "features/", samples="devices.csv")\n```',
        f"![A transfer curve and its threshold voltages by five methods]({picture})",
        "Standard errors by the noise (`_stderr`) follow from that of the sweep, which is told "
        "from how readings scatter about their neighbours. On simulated white noise, intervals of "
        "1.96 of them hold the value without noise as often: 94 to 97 % of the time for the lines "
        "of Y function and ratio, and for gm and µC* by windows. Where the place of a largest "
        "slope is looked for (tangents, bend, µC* by gm) it is 98 to 100 %: these errors are too "
        "large rather than too small. Errors by the geometry (`_geometry_stderr`) are those of "
        "u_W, u_L and u_d, to first order; both kinds are independent.",
        "`smooth=n` is for noisy sweeps: parabolas by least squares over n points. It flattens a "
        "maximum that is narrower than the window, so that it is never used without being asked "
        "for.",
    ]
    shown: dict[str, list[str]] = {}
    extractors: dict[str, BaseExtractor] = {}
    for feature in of.FeatureSet.load(SET).extracted:
        if feature.extractor is not None:
            shown.setdefault(feature.extractor.name, []).append(feature.name)
            extractors[feature.extractor.name] = feature.extractor
    for name, features in shown.items():
        parts += _section(extractors[name], features)
    return "\n\n".join(parts)


def _section(extractor: BaseExtractor, features: list[str]) -> list[str]:
    """Return what is said of one extractor."""
    errors = [
        f"`_{name}`: {escape(variable.description)}"
        for name, variable in extractor.variables.items()
        if name.endswith("stderr")
    ]
    words = [f"`{word}`" for word in extractor.statuses if word not in COMMON_STATUSES]
    link = f"[`{extractor.name}`](../features/{extractor.name}.md)"
    return [
        f"## {escape(extractor.description[0].upper() + extractor.description[1:])}",
        f"{link}, in {unit(extractor.unit)}; in the set: "
        + ", ".join(f"`{name}`" for name in features)
        + ".",
        "```{math}\n" + extractor.formula + "\n```",
        prose(extractor.definition.rstrip(".") + "."),
        "*Standard error:* " + ("; ".join(errors) or "none") + ".",
        "*Status words:* " + ", ".join(words) + ".",
        "*Reference:* " + link_doi(extractor.reference),
    ]


def draw_merit(path: Path) -> None:
    """Draw a transfer curve and its threshold voltages by five methods, and write it as PNG."""
    vg = np.linspace(-0.1, 0.7, 97)
    over = 0.04 * np.logaddexp(0.0, (vg - 0.2) / 0.04)
    within = np.minimum(over, 0.05)
    rng = np.random.default_rng(3)
    current = 0.02 * (over - within / 2) * within / (1 + 0.6 * over)
    current = current + 4e-7 * rng.standard_normal(vg.size)
    step = {"Vg": vg, "Id": current, "Vd": 0.05}
    figure = Figure(figsize=(8, 3.4), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.plot(vg, 1e3 * current, ".", color=GREY, markersize=3)
    for k, (method, colour) in enumerate(_METHODS.items()):
        found = get_extractor("transfer.Vth", {"method": method, "smooth": 9}).extract_step(step)
        value, error = float(found["value"]), 1.96 * float(found["stderr"])
        level = 1e3 * current.max() * (0.95 - 0.09 * k)
        axes.errorbar(value, level, xerr=error, fmt="o", color=colour, capsize=3)
        text = f"{method}: {1e3 * value:.1f} ± {1e3 * error:.1f} mV"
        axes.annotate(text, (-0.08, level), color=colour, va="center", fontsize=9)
        axes.axvline(value, color=colour, linewidth=0.6, alpha=0.5)
    axes.set(
        xlabel="$V_G$ (V)",
        ylabel="$I_D$ (mA)",
        title="Vd = 50 mV, true Vth = 200 mV; 95 % intervals",
    )
    figure.savefig(path, dpi=160, metadata={"Software": None})
