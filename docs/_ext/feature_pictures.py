"""A picture of each feature: simulated data with the feature marked in them.

What is marked follows from what the extractor declares: its source, its unit and its axes.  So an
extractor that nobody has thought of here gets a picture as well; a few have a mark of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from oectflow.extractors.base import BaseExtractor, get_extractor
from oectflow.extractors.impedance import fit_randles
from oectflow.pipeline.features.functions import median
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.plots.transient import Fit

#: Okabe & Ito (2008), "Color universal design".
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#999999"
_SAMPLE_RATE, _PERIOD, _DUTY_CYCLE = 1000.0, 0.2, 0.5
_CYCLES = 5
_MOST_SHOWN = 4
#: Units that people write with SI prefixes.
_PREFIXED = ("V", "A", "S", "s", "F", "C", "Ω")

Step = Mapping[str, Any]


def draw(extractor: BaseExtractor, path: Path) -> None:
    """Draw a feature of one simulated step and write it as PNG.

    Parameters
    ----------
    extractor
        With its default parameters.
    path
        The picture.
    """
    step = _steps()[extractor.source]
    if extractor.name in _SLOWER:
        step = _with_slow_part(step)
    found = extractor.extract_step(step)
    words = list(extractor.variables["status"].statuses)
    figure = Figure(figsize=(8, 3.2), layout="constrained", facecolor="white")
    drawing = {
        "impedance": _draw_spectrum,
        "output": _draw_output,
        "transfer": _draw_sweep,
        "transient": _draw_trace,
    }
    drawing[extractor.source](figure, extractor, step, found)
    title = _label(extractor, found)
    status = {words[code] for code in np.ravel(found["status"])} - {"ok", "absent"}
    if status:
        title += f" (status: {', '.join(sorted(status))})"
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=160, metadata={"Software": None})


@cache
def _steps() -> dict[str, Step]:
    """Return one simulated step of each source, as extractors get them."""
    device = simulate_device(
        1,
        n_transfer=1,
        n_transient=1,
        n_cycles=_CYCLES,
        sample_rate=_SAMPLE_RATE,
        period=_PERIOD,
        duty_cycle=_DUTY_CYCLE,
        hysteresis_V=0.06,
        off_ratio=3e-3,
        transfer_noise=1e-4,
    )
    # The square law up to saturation, and channel-length modulation behind it.
    Vd = np.linspace(0, 0.6, 61)
    within = np.minimum(Vd, 0.3)
    current = 2e-3 * (0.3 - within / 2) * within * (1 + 0.15 * Vd)
    sweep, trace = device.transfer_steps[0], device.transient_steps[0]
    frequency = np.logspace(5, -1, 37)
    noisy = 1 + 0.01 * np.random.default_rng(0).standard_normal((2, frequency.size))
    Z = 200 + 1 / (1e-6 + 2e-6j * np.pi * frequency)
    return {
        "impedance": {
            "frequency": frequency,
            "Z_real": Z.real * noisy[0],
            "Z_imag": Z.imag * noisy[1],
            "sample": {"W": 1e-4, "L": 1e-4, "d": 1e-6},
        },
        "output": {"Vd": Vd, "Id": current},
        "transfer": {
            "Vg": sweep.arrays["Vg"],
            "Id": sweep.arrays["Id"],
            "Ig": 2e-7 * sweep.arrays["Vg"],
            "sample": {"W": 1e-4, "L": 1e-5, "d": 5e-8, "Vd": 0.6},
        },
        "transient": {
            "continuous_time": trace.arrays["time"],
            "original_time": trace.arrays["time"],
            "drain_current": trace.arrays["Id"],
            # What charges the gate, and a leakage.
            "Ig": 0.02 * np.diff(trace.arrays["Id"], prepend=0.0) + 2e-7,
            "Vg_low": 0.0,
            "Vg_high": 0.5,
            "sampling_interval": 1 / _SAMPLE_RATE,
            "gate_period": _PERIOD,
            "duty_cycle": _DUTY_CYCLE,
        },
    }


#: Features of devices that do not switch with one time constant.
_SLOWER = ("transient.two_exponentials", "transient.stretched_exponential")


def _with_slow_part(step: Step) -> Step:
    """Return a transient of which a third follows the gate eight times as slowly as the rest."""
    current, share = step["drain_current"], 1 / (8 * 10e-3 * _SAMPLE_RATE)
    slow = np.empty_like(current)
    level = current[0]
    for i, value in enumerate(current):
        level += share * (value - level)
        slow[i] = level
    return {**step, "drain_current": (2 * current + slow) / 3}


def _draw_sweep(figure: Figure, extractor: BaseExtractor, step: Step, found: Step) -> None:
    """Draw both branches, linear with gm and logarithmic, and mark the value where it can be."""
    linear, logarithmic = figure.subplots(1, 2)
    right = linear.twinx()
    vg, current = step["Vg"], step["Id"]
    turn = int(np.argmax(np.abs(vg - vg[0])))
    slopes = []
    for part, style in ((slice(0, turn + 1), "-"), (slice(turn, None), "--")):
        slopes.append(np.gradient(current[part], vg[part]))
        linear.plot(vg[part], current[part], style, color=GREY)
        logarithmic.plot(vg[part], np.abs(current[part]), style, color=GREY)
        right.plot(vg[part], slopes[-1], style, color=GREEN, alpha=0.6, linewidth=1)
    linear.set(xlabel="$V_G$", ylabel="$I_D$ (grey)")
    right.set_ylabel("$g_m$ (green)")
    logarithmic.set(xlabel="$V_G$", ylabel="$|I_D|$", yscale="log")
    for axes, unit in ((linear, "A"), (logarithmic, "A"), (right, "S")):
        axes.xaxis.set_major_formatter(EngFormatter("V"))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(EngFormatter(unit))
    values = np.ravel(found["value"])
    if extractor.name in _SWEEP_MARKS:
        forward, reverse = slice(0, turn + 1), slice(turn, None)
        branches = [(vg[part], current[part]) for part in (forward, reverse)]
        _SWEEP_MARKS[extractor.name](linear, logarithmic, *branches, float(values[0]))
    elif extractor.unit == "V, A" and len(values) == 2:
        for axes in (linear, logarithmic):
            axes.plot(*values, "o", color=ORANGE, markersize=8)
    elif extractor.unit == "S":
        for value, slope in zip(values, slopes, strict=False):
            at = int(np.argmin(np.abs(np.abs(slope) - value)))
            right.plot(vg[: turn + 1][at], slope[at], "o", color=ORANGE, markersize=8)
    else:
        for value in values:
            for axes in (linear, logarithmic):
                if extractor.unit == "V":
                    axes.axvline(value, color=ORANGE, linewidth=2)
                elif extractor.unit == "A":
                    axes.axhline(value, color=ORANGE, linewidth=2)


Branch = tuple[np.ndarray, np.ndarray]


def _mark_tangent(linear: Any, _log: Any, forward: Branch, _reverse: Branch, value: float) -> None:
    """Draw the steepest tangent down to where it is 0."""
    vg, current = forward
    top = int(np.argmax(np.gradient(current, vg)))
    linear.plot([value, vg[top]], [0.0, current[top]], color=ORANGE, linewidth=2)
    linear.plot(value, 0.0, "o", color=ORANGE, markersize=8)


def _mark_ends(_linear: Any, log: Any, forward: Branch, _reverse: Branch, _value: float) -> None:
    """Draw the largest and the smallest current of the forward branch."""
    for current in (forward[1].min(), forward[1].max()):
        log.axhline(current, color=ORANGE, linewidth=2)


def _mark_slope(_linear: Any, log: Any, forward: Branch, _reverse: Branch, value: float) -> None:
    """Draw a decade at the slope that was found, through the steepest point."""
    vg, current = forward
    decades = np.log10(current)
    top = int(np.argmax(np.gradient(decades, vg)))
    ends = np.array([-0.5, 0.5])
    log.plot(vg[top] + ends * value, 10 ** (decades[top] + ends), color=ORANGE, linewidth=3)


def _mark_width(linear: Any, log: Any, forward: Branch, reverse: Branch, value: float) -> None:
    """Draw the distance of both branches at half of the largest current that both reach."""
    level = min(forward[1].max(), reverse[1].max()) / 2
    right = float(np.interp(level, forward[1], forward[0]))
    for axes in (linear, log):
        axes.plot([right - value, right], [level, level], "o-", color=ORANGE, linewidth=2)


#: Features that a line at their value would not show.
_SWEEP_MARKS: dict[str, Callable[[Any, Any, Branch, Branch, float], None]] = {
    "transfer.Vth": _mark_tangent,
    "transfer.on_off_ratio": _mark_ends,
    "transfer.subthreshold_swing": _mark_slope,
    "transfer.hysteresis": _mark_width,
}


def _draw_output(figure: Figure, extractor: BaseExtractor, step: Step, found: Step) -> None:
    """Draw the curve, its tangents at both ends, and the value where it is a voltage or slope."""
    axes = figure.subplots()
    Vd, current = step["Vd"], step["Id"]
    axes.plot(Vd, current, ".", color=GREY)
    low = get_extractor("output.channel_conductance").extract_step(step)["value"]
    end = np.polyfit(Vd[Vd >= 0.75 * Vd[-1]], current[Vd >= 0.75 * Vd[-1]], 1)
    from_zero = Vd[low * Vd <= 1.2 * current.max()]
    of_start = extractor.name in ("output.channel_conductance", "output.on_resistance")
    both = extractor.name == "output.saturation_voltage"
    axes.plot(from_zero, low * from_zero, color=ORANGE if of_start or both else GREEN)
    axes.plot(Vd, np.polyval(end, Vd), color=GREEN if of_start else ORANGE)
    if both:
        axes.axvline(float(found["value"]), color=ORANGE, linewidth=2)
    axes.set(xlabel="$V_D$", ylabel="$I_D$")
    axes.xaxis.set_major_formatter(EngFormatter("V"))
    axes.yaxis.set_major_formatter(EngFormatter("A"))


def _draw_spectrum(figure: Figure, extractor: BaseExtractor, step: Step, found: Step) -> None:
    """Draw both parts of the impedance with the fitted circuit, and the value where it is one."""
    axes = figure.subplots()
    frequency = step["frequency"]
    fit = fit_randles(frequency, step["Z_real"], step["Z_imag"])
    curve = fit.Rs + fit.elastance / (fit.rate + 2j * np.pi * frequency)
    axes.loglog(frequency, step["Z_real"], ".", color=GREY, label="Re Z")
    axes.loglog(frequency, -step["Z_imag"], "x", color=GREY, markersize=4, label="-Im Z")
    axes.loglog(frequency, curve.real, color=ORANGE)
    axes.loglog(frequency, -curve.imag, color=GREEN)
    if extractor.unit == "Hz":
        axes.axvline(float(found["value"]), color=BLUE, linewidth=2)
    elif extractor.unit == "Ω":
        axes.axhline(float(found["value"]), color=BLUE, linewidth=1)
    axes.legend()
    axes.set(xlabel="frequency")
    axes.xaxis.set_major_formatter(EngFormatter("Hz"))
    axes.yaxis.set_major_formatter(EngFormatter("Ω"))


def _draw_trace(figure: Figure, extractor: BaseExtractor, step: Step, found: Step) -> None:
    """Draw the trace and mark the value; how depends on its unit and axes."""
    dims = extractor.variables["value"].dims
    if dims == ("band",):
        trace, bars = figure.subplots(1, 2)
        _draw_bands(bars, extractor, found)
    else:
        trace = figure.subplots()
    of_gate = "Ig" in (extractor.arrays or ())
    drawn = step["Ig" if of_gate else "drain_current"]
    trace.plot(step["original_time"], drawn, ".", color=GREY, markersize=2)
    if "to_63" in found:
        _mark_crossings(trace, found)
    elif dims == ("cycle", "phase") and "window_start" in found:
        _mark_fits(trace, found)
    elif dims == ("cycle",) and extractor.unit == "A":
        _mark_cycles(trace, step, found)
    elif dims == () and extractor.unit == "A":
        trace.axhline(float(found["value"]), color=ORANGE, linewidth=2)
    elif dims == () and extractor.unit == "s":
        _mark_decay(trace, step, float(found["value"]))
    trace.set(xlabel="time", ylabel="$I_G$" if of_gate else "$I_D$")
    trace.xaxis.set_major_formatter(EngFormatter("s"))
    trace.yaxis.set_major_formatter(EngFormatter("A"))


def _mark_decay(axes: Any, step: Step, tau: float) -> None:
    """Draw an exponential of this tau through the off phase that follows the first on phase."""
    time, current = step["original_time"], step["drain_current"]
    first = round(_PERIOD * _SAMPLE_RATE)
    last = first + round((1 - _DUTY_CYCLE) * _PERIOD * _SAMPLE_RATE)
    decay = np.exp(-(time[first:last] - time[first]) / tau)
    if np.isfinite(tau):
        amplitude, offset = np.polyfit(decay, current[first:last], 1)
        axes.axvspan(time[first], time[last], color=ORANGE, alpha=0.15)
        axes.plot(time[first:last], offset + amplitude * decay, color=ORANGE, linewidth=2.5)
        axes.set_xlim(0, 2 * _PERIOD)


def _mark_cycles(axes: Any, step: Step, found: Step) -> None:
    """Mark the sample of each period that comes nearest to the value."""
    per_cycle = round(_PERIOD * _SAMPLE_RATE)
    for cycle, value in enumerate(found["value"][np.isfinite(found["value"])]):
        samples = slice(cycle * per_cycle, (cycle + 1) * per_cycle)
        distance = np.abs(step["drain_current"][samples] - value)
        if distance.size:
            at = step["original_time"][samples][int(np.argmin(distance))]
            axes.plot(at, value, "o", color=ORANGE, markersize=7)


def _mark_fits(axes: Any, found: Step) -> None:
    """Draw windows and fitted curves of the first cycles."""
    for phase, (word, colour) in enumerate((("on", BLUE), ("off", ORANGE))):
        for cycle in range(2):
            tau = float(found["value"][cycle, phase])
            if not np.isfinite(tau):
                continue
            names = ("amplitude", "offset", "slow", "slow_amplitude", "beta")
            start, duration = (
                float(found[name][cycle, phase]) for name in ("window_start", "window_duration")
            )
            known = {name: float(found[name][cycle, phase]) for name in names if name in found}
            fit = Fit(cycle, word, "ok", start, duration, tau, **known)
            t = np.linspace(0, duration, 100)
            axes.axvspan(start, start + duration, color=colour, alpha=0.15)
            axes.plot(start + t, fit.current(t), color=colour, linewidth=2.5)
    axes.set_xlim(0, 3 * _PERIOD)


def _mark_crossings(axes: Any, found: Step) -> None:
    """Draw the plateaus and crossings of the first cycles."""
    for phase, colour in enumerate((BLUE, ORANGE)):
        for cycle in range(3):
            at = cycle, phase
            if not np.isfinite(found["value"][at]):
                continue
            levels = np.array([float(found[name][at]) for name in ("begin_level", "end_level")])
            times = [found["window_start"][at] + found[f"to_{n}"][at] for n in (10, 63, 90)]
            ways = levels[0] + np.array([0.1, 1 - np.exp(-1), 0.9]) * (levels[1] - levels[0])
            for level in levels:
                axes.axhline(level, color=GREEN, linewidth=0.8, alpha=0.4)
            axes.plot(times, ways, "o-", color=colour, markersize=7)
    axes.set_xlim(0, 3 * _PERIOD)


def _draw_bands(axes: Any, extractor: BaseExtractor, found: Step) -> None:
    axes.bar(extractor.variables["value"].labels["band"], found["value"], color=ORANGE)
    power = re.sub(r"\^(\d+)", r"$^\1$", extractor.unit)
    axes.set(xlabel="band", ylabel=power, yscale="log")


def _label(extractor: BaseExtractor, found: Step) -> str:
    """Return name and value, for a title: medians over cycles, the first values of a long axis."""
    variable = extractor.variables["value"]
    value = np.atleast_1d(found["value"])
    last = variable.dims[-1] if variable.dims else ""
    names = variable.labels.get(last, ("",) * value.shape[-1])
    if value.ndim > 1:
        value = median(value.reshape(-1, value.shape[-1]), axis=0)
    units = extractor.unit.split(", ")
    shown = []
    for i, (name, number) in enumerate(zip(names, value.tolist(), strict=True)):
        if not np.isfinite(number) or i == _MOST_SHOWN:
            shown.append("…")
            break
        unit = units[i % len(units)]
        text = EngFormatter(unit, places=2)(number) if unit in _PREFIXED else f"{number:.3g} {unit}"
        shown.append(f"{name} {text}".strip())
    return f"{extractor.name.rpartition('.')[2]} = {', '.join(shown)}"
