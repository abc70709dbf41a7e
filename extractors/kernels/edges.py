"""Where the cycles and phases of a step really begin: by the recorded gate, or by the trace.

Cycle i has two phases, on and off, each with a first sample and a length of its own; so no error of
a nominal period adds up from cycle to cycle.

Dimension letters: N samples of a step, n cycles; the last axis is (on, off).
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.exponential import (
    EITHER,
    FIT_OK,
    N_COLUMNS,
    NOISE,
    R2,
    fit_exponential,
)
from oectflow.extractors.kernels.gate import end_level

ON, OFF = 0, 1
#: What the cycles of a step are cut by.
NOMINAL, NO_CYCLES, GATE, TRACE = range(4)
#: Highest gate voltage of an electrolyte-gated device, in V, and the least pulse that is one.
HIGHEST_VOLTAGE, LEAST_PULSE = 200.0, 1e-3
#: Share of the pulse within which a sample belongs to a level.
NEAR_LEVEL = 0.25
#: Least share of the samples that belong to one of the two levels of a square wave.
SQUARE = 0.7
#: Share of its usual length by which the last phase of a step may be cut and still count.
CUT_SHARE = 0.05
#: There is no edge where the correlation with the edges before is less than this.
SAME_EDGE = 0.3


@kernel
def gate_levels(vg):
    """Return the low and the high level of a square wave in V; NaN where it is none.

    A few samples per thousand that belong to neither do not matter.
    """
    good = np.empty(vg.size)
    n = 0
    for k in range(vg.size):
        if abs(vg[k]) <= HIGHEST_VOLTAGE:
            good[n] = vg[k]
            n += 1
    if n < 8:
        return math.nan, math.nan
    good = np.sort(good[:n])
    trim = max(1 if n >= 16 else 0, n // 200)
    low, high = good[trim], good[n - 1 - trim]
    if not high - low >= LEAST_PULSE:
        return math.nan, math.nan
    near = NEAR_LEVEL * (high - low)
    count = 0
    for k in range(n):
        count += good[k] < low + near or good[k] > high - near
    return (low, high) if count >= SQUARE * n else (math.nan, math.nan)


@borrowing
def gate_runs(vg, runs):
    """Find the stretches in which the gate is at one of its two levels.

    Parameters
    ----------
    vg
        Gate voltage in V.  Shape (N,).
    runs
        Gets first sample, end, and 1 for high, 0 for low.  Shape (at least N / 2 + 1, 3), int64.

    Returns
    -------
    Number of runs; 0 where the gate is no square wave.  Samples on the way between the levels
    belong to no run, and a single sample at the other level is none.
    """
    low, high = gate_levels(vg)
    if math.isnan(low):
        return 0
    near = NEAR_LEVEL * (high - low)
    n = 0
    before = -1
    for k in range(vg.size):
        now = -1
        if abs(vg[k]) <= HIGHEST_VOLTAGE:
            if vg[k] > high - near:
                now = 1
            elif vg[k] < low + near:
                now = 0
        if now >= 0:
            if n > 0 and runs[n - 1, 2] == now:
                runs[n - 1, 1] = k + 1
            elif now == before or n == 0:
                runs[n, 0] = k - 1 if n > 0 else 0
                runs[n, 1] = k + 1
                runs[n, 2] = now
                n += 1
        before = now
    return n


@kernel
def complete_cycles(runs, n):
    """Return the number of complete cycles in ``n`` runs: pairs, from the first one on."""
    if n < 2:
        return 0
    usual = np.empty(n)
    used = 0
    for k in range(n - 1):
        if runs[k, 2] == runs[n - 1, 2]:
            usual[used] = runs[k, 1] - runs[k, 0]
            used += 1
    length = runs[n - 1, 1] - runs[n - 1, 0]
    if used and length < (1.0 - CUT_SHARE) * np.median(usual[:used]) - 1.5:
        n -= 1
    return n // 2


@kernel
def phases_of_runs(y, runs, n_cycles, starts, first, length):
    """Tell which gate level is on, and where the phases of every cycle are.

    Parameters
    ----------
    y
        Oriented current.  Shape (N,).
    runs
        From :func:`gate_runs`.
    n_cycles
        From :func:`complete_cycles`.
    starts, first, length
        Get the borders of the cycles (n + 1,), first samples and lengths of the phases (n, 2).

    Returns
    -------
    1 where the gate is high in the on phase, 0 where it is low.
    """
    steps = np.empty(n_cycles)
    used = 0
    for i in range(n_cycles):
        a, b = runs[2 * i], runs[2 * i + 1]
        step = end_level(y, a[0], a[1] - a[0]) - end_level(y, b[0], b[1] - b[0])
        if not math.isnan(step):
            steps[used] = step
            used += 1
    first_on = used > 0 and np.median(steps[:used]) > 0.0
    for i in range(n_cycles):
        on = 2 * i if first_on else 2 * i + 1
        off = 2 * i + 1 if first_on else 2 * i
        starts[i] = runs[2 * i, 0]
        starts[i + 1] = runs[2 * i + 1, 1]
        first[i, ON], length[i, ON] = runs[on, 0], runs[on, 1] - runs[on, 0]
        first[i, OFF], length[i, OFF] = runs[off, 0], runs[off, 1] - runs[off, 0]
    return runs[0, 2] if first_on else 1 - runs[0, 2]


@borrowing
def follow(y, at, period, before, after, reach, edges, template):
    """Follow an edge from cycle to cycle by its likeness to the ones before.

    Parameters
    ----------
    y
        Oriented current.  Shape (N,).
    at, period
        A first edge, and the first guess of the period, in samples.
    before, after, reach
        Samples before and after the edge that are compared, and how far from the guess.
    edges
        Gets the edges.  Shape (at least as many as the trace can hold,), int64.
    template
        Gets the mean of all of them.  Shape (before + after,).

    Returns
    -------
    Number of edges.
    """
    n = before + after
    for k in range(n):
        template[k] = y[at - before + k]
    edges[0] = at
    count = 1
    place = float(at)
    while count < edges.size:
        guess = place + period
        centre = math.floor(guess + 0.5)
        if centre - reach < before or centre + reach + after > y.size:
            break
        best = -math.inf
        found = centre
        for d in range(-reach, reach + 1):
            c = likeness(template, y[centre + d - before : centre + d + after])
            # Of equally good ones, take the nearest to the guess.
            if c > best + 1e-12 or (c > best - 1e-12 and abs(d) < abs(found - centre)):
                best = c
                found = centre + d
        if best >= SAME_EDGE:
            place = float(found)
            period += 0.25 * (found - guess)
            share = 1.0 / min(count + 1, 16)
            for k in range(n):
                value = y[found - before + k]
                if math.isnan(template[k]):
                    template[k] = value
                elif not math.isnan(value):
                    template[k] += share * (value - template[k])
        else:
            place = guess
            found = centre
        edges[count] = found
        count += 1
    return count


@borrowing
def likeness(a, b):
    """Return the correlation of two pieces, leaving out NaN; 0 where there is none."""
    count = 0
    ma = mb = 0.0
    for k in range(a.size):
        if not math.isnan(a[k] + b[k]):
            ma += a[k]
            mb += b[k]
            count += 1
    if count < 3:
        return 0.0
    ma /= count
    mb /= count
    aa = bb = ab = 0.0
    for k in range(a.size):
        if not math.isnan(a[k] + b[k]):
            u, v = a[k] - ma, b[k] - mb
            aa += u * u
            bb += v * v
            ab += u * v
    return ab / math.sqrt(aa * bb) if aa * bb > 0.0 else 0.0


@borrowing
def sharpness(piece):
    """Return the largest change from sample to sample over the range; NaN where one is missing."""
    low = high = piece[0]
    change = 0.0
    for k in range(1, piece.size):
        if math.isnan(piece[k] - piece[k - 1]):
            return math.nan
        low = min(low, piece[k])
        high = max(high, piece[k])
        change = max(change, abs(piece[k] - piece[k - 1]))
    return change / (high - low) if high > low else math.nan


@kernel
def kink(piece, near, reach):
    """Return the first sample of the new phase in a piece of curve around a switch.

    It is the place within ``reach`` of ``near`` where the piece best falls into two exponentials.
    """
    best = math.inf
    found = near
    row = np.empty(N_COLUMNS)
    even = np.empty(0)
    for d in range(max(4, near - reach), min(near + reach, piece.size - 4) + 1):
        total = 0.0
        for part in range(2):
            y = piece[:d] if part == 0 else piece[d:]
            code, _ = fit_exponential(y, even, EITHER, math.nan, row)
            share = 1.0 - row[R2] if code in (FIT_OK, NOISE) else 1.0
            total += share * np.var(y) * y.size
        if total < best:
            best = total
            found = d
    return found


@kernel
def phases_of_trace(y, m, on, off, n_on, n_off, duty_known, starts, first, length):
    """Find the phases of every cycle by the trace, from a first guess.

    Parameters
    ----------
    y
        Oriented current.  Shape (N,).
    m
        Guess of the samples per period.
    on, off, n_on, n_off
        Guess of the phases in the first cycle, from :func:`.gate.phase_offsets`.
    duty_known
        Whether their lengths are known, and not only guessed.
    starts, first, length
        Get the borders of the cycles (n + 1,), first samples and lengths of the phases (n, 2);
        arrays for as many cycles as may come out.

    Returns
    -------
    Number of complete cycles, 0 where nothing is found.
    """
    most = first.shape[0] + 2
    edges = np.zeros((2, most), np.int64)
    counts = np.zeros(2, np.int64)
    sharp = np.zeros(2)
    reach = max(3, math.floor(m) // 16)
    for phase in (ON, OFF):
        at = on if phase == ON else off
        n_after = n_on if phase == ON else n_off
        n_before = n_off if phase == ON else n_on
        before = max(4, n_before // 3)
        after = max(4, n_after // 2)
        at = at if at >= before else at + math.floor(m + 0.5)
        if at + after > y.size:
            return 0
        template = np.empty(before + after)
        n = follow(y, at, m, before, after, reach, edges[phase], template)
        sharp[phase] = sharpness(template)
        if math.isnan(sharp[phase]):
            return 0
        # The sample at the switch is the last one of the level before.
        place = kink(template, before, min(reach, min(before, after) // 2)) - 1
        for k in range(n):
            edges[phase, k] += place - before
        counts[phase] = n
    lead = ON if on < off else OFF
    lag = 1 - lead
    if duty_known and min(sharp[ON], sharp[OFF]) < 0.5 * max(sharp[ON], sharp[OFF]):
        # A slow answer does not show when the gate was switched; the quick one and the nominal
        # lengths do.
        clear = ON if sharp[ON] > sharp[OFF] else OFF
        n = counts[clear]
        scale = (edges[clear, n - 1] - edges[clear, 0]) / (n - 1) / m if n > 1 else 1.0
        behind = math.floor((n_on if clear == ON else n_off) * scale + 0.5)
        extra = 0
        ahead = edges[clear, 0] - math.floor((n_off if clear == ON else n_on) * scale + 0.5)
        if ahead > 0 and clear == lead:
            edges[1 - clear, 0] = ahead
            extra = 1
        for k in range(n):
            edges[1 - clear, min(k + extra, most - 1)] = edges[clear, k] + behind
        counts[1 - clear] = min(n + extra, most)
        while counts[1 - clear] > 0 and edges[1 - clear, counts[1 - clear] - 1] >= y.size:
            counts[1 - clear] -= 1
    # The phase that a cycle begins with also begins with the trace.
    leads = edges[lead, : counts[lead]]
    n = 0
    for i in range(counts[lag]):
        middle = edges[lag, i]
        j = np.searchsorted(leads, middle)
        begin = leads[j - 1] if j > 0 else 0
        if j < leads.size:
            end = leads[j]
        else:
            # The last one ends with the trace, if all of it is there.
            usual = length[n - 1, lag] if n else (n_on if lag == ON else n_off)
            if y.size - middle < 0.75 * usual - 1.5:
                break
            end = min(y.size, middle + usual)
        if not begin < middle < end or n == first.shape[0] or (n > 0 and begin < starts[n]):
            break
        starts[n] = begin
        starts[n + 1] = end
        first[n, lead], length[n, lead] = begin, middle - begin
        first[n, lag], length[n, lag] = middle, end - middle
        n += 1
    return n
