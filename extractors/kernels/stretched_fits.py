"""A stretched exponential with a constant: windows of one length, many of them side by side.

The way down is that of :mod:`.newton_lanes`, on residuals: where it ends, no digits are missing.
Every loop over the samples has an innermost loop over the windows, as in :mod:`.pair_fits`.  What
is in doubt goes the way of a single window (:mod:`.mixtures`).  A result does not depend on what
else is in the call.

Dimension letters: n samples of a window, r coordinates, K nodes.
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.ceilings import limits_of
from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.downhill import STRETCHED
from oectflow.extractors.kernels.gate import OVERFLOW
from oectflow.extractors.kernels.lane_math import exponential, less_one
from oectflow.extractors.kernels.mixtures import (
    A_1,
    CLIPPED,
    FIRST,
    FIT_OK,
    MOST_STARTS,
    OFFSET,
    OUTLIER,
    R2,
    RSS,
    SE_FIRST,
    SE_SECOND,
    SECOND,
    errors_of_products,
    fit_window,
    is_clipped,
    is_far,
)
from oectflow.extractors.kernels.newton_lanes import (
    BY_P,
    BY_Q,
    DOUBTED,
    ENDED,
    GAIN,
    LANES,
    LEFT,
    PP,
    PQ,
    QQ,
    ROWS,
    P,
    Q,
    begin,
    idle,
    step_all,
)
from oectflow.extractors.kernels.pair_starts import (
    HIGHEST,
    LARGEST,
    MEAN,
    N_ABOUT,
    SMALLEST,
    TOTAL,
    centre,
    find_maxima,
    multiply,
)

#: Windows that are searched together, a multiple of the lanes.
BLOCK = 128
#: Shares of the sum of squares; a step that would take less off it is the last one.  A rough result
#: is enough for what goes into a standard error.
NEARLY, ROUGHLY = 1e-11, 1e-6
#: Unknowns with the constant.
_N_UNKNOWNS = 4

# Rows of the work space behind those of newton_lanes: sums of the function and what follows, sums
# with residuals, and products of the slopes.  S is u exp(-u), X is S ln u.
_BETA, _AMPLITUDE, _MEAN_F, _SUM_F, _FF, _FY = range(ROWS, ROWS + 6)
_RSS, _NEAR, _WORST, _BEFORE, _FR, _SR, _XR, _PPR, _PQR, _QQR = range(ROWS + 6, ROWS + 16)
_S, _X, _SS, _SX, _XX, _SF, _XF = range(ROWS + 16, ROWS + 23)
_ROWS = ROWS + 23


@borrowing
def add_functions(y, logs, w, x, u, f):
    """Compute the functions of all lanes, and their amplitudes.

    Parameters
    ----------
    y
        Centred windows, sample by sample.  Shape (n * LANES,).
    logs
        Logarithms of the times since the first sample.  Shape (n,).
    w
        Work space.  Shape (_ROWS * LANES,).
    x, u, f
        Get ``ln u``, ``u = (t / tau)^beta`` and ``exp(-u) - 1``.  Shape (n * LANES,).
    """
    n = logs.size
    for i in range(LANES):
        w[_BETA * LANES + i] = exponential(w[Q * LANES + i])
    for i in range(_SUM_F * LANES, _ROWS * LANES):
        w[i] = 0.0
    for k in range(n):
        log_t = logs[k]
        for i in range(LANES):
            # As in downhill.stretch.
            z = w[_BETA * LANES + i] * (log_t - w[P * LANES + i])
            z = z if z > -600.0 else -600.0
            z = z if z < 6.0 else 6.0
            power = exponential(z)
            value = less_one(-power)
            x[k * LANES + i] = z
            u[k * LANES + i] = power
            f[k * LANES + i] = value
            w[_SUM_F * LANES + i] += value
            w[_FF * LANES + i] += value * value
            w[_FY * LANES + i] += value * y[k * LANES + i]
    per_n = 1.0 / n
    for i in range(LANES):
        mean = w[_SUM_F * LANES + i] * per_n
        w[_MEAN_F * LANES + i] = mean
        w[_FF * LANES + i] -= w[_SUM_F * LANES + i] * mean
        w[_AMPLITUDE * LANES + i] = w[_FY * LANES + i] / w[_FF * LANES + i]


@borrowing
def add_residuals(y, n, w, x, u, f):
    """Sum up what the fits leave, and its products with their slopes and curvatures."""
    for k in range(n):
        for i in range(LANES):
            z, power = x[k * LANES + i], u[k * LANES + i]
            value = f[k * LANES + i]
            centred = value - w[_MEAN_F * LANES + i]
            r = y[k * LANES + i] - w[_AMPLITUDE * LANES + i] * centred
            s = power + power * value
            sz = s * z
            bend = (1.0 - power) * z + 1.0
            sr = s * r
            w[_SR * LANES + i] += sr
            w[_XR * LANES + i] += sz * r
            w[_PPR * LANES + i] += sr * (power - 1.0)
            w[_PQR * LANES + i] += sr * bend
            w[_QQR * LANES + i] += sr * z * bend
            w[_S * LANES + i] += s
            w[_X * LANES + i] += sz
            w[_SS * LANES + i] += s * s
            w[_SX * LANES + i] += s * sz
            w[_XX * LANES + i] += sz * sz
            w[_SF * LANES + i] += s * centred
            w[_XF * LANES + i] += sz * centred
            w[_FR * LANES + i] += centred * r
            square = r * r
            w[_RSS * LANES + i] += square
            w[_NEAR * LANES + i] += r * w[_BEFORE * LANES + i]
            w[_BEFORE * LANES + i] = r
            worst = w[_WORST * LANES + i]
            w[_WORST * LANES + i] = square if square > worst else worst


@borrowing
def differentiate(n, w):
    """Fill in what :mod:`.newton_lanes` takes, as :func:`.downhill.differentiate` does."""
    per_n = 1.0 / n
    for i in range(LANES):
        beta, ff = w[_BETA * LANES + i], w[_FF * LANES + i]
        s, x = w[_S * LANES + i], w[_X * LANES + i]
        scale = 1.0 / ff
        uu = beta * beta * (w[_SS * LANES + i] - s * s * per_n)
        uv = -beta * (w[_SX * LANES + i] - s * x * per_n)
        vv = w[_XX * LANES + i] - x * x * per_n
        uf, vf = beta * w[_SF * LANES + i], -w[_XF * LANES + i]
        # Rounding leaves some of the function in the residuals; it goes to the amplitude.
        more = w[_FR * LANES + i] * scale
        a = w[_AMPLITUDE * LANES + i] + more
        ur = beta * w[_SR * LANES + i] - uf * more
        vr = -w[_XR * LANES + i] - vf * more
        of_p, of_q = a * uf - ur, a * vf - vr
        w[_AMPLITUDE * LANES + i] = a
        # For the standard errors.
        w[_SS * LANES + i] = uu
        w[_SX * LANES + i] = uv
        w[_XX * LANES + i] = vv
        w[_SF * LANES + i] = uf
        w[_XF * LANES + i] = vf
        w[GAIN * LANES + i] = -w[_RSS * LANES + i]
        w[BY_P * LANES + i] = -a * ur
        w[BY_Q * LANES + i] = -a * vr
        w[PP * LANES + i] = a * (a * uu - beta * beta * w[_PPR * LANES + i]) - of_p * of_p * scale
        w[PQ * LANES + i] = a * (a * uv - beta * w[_PQR * LANES + i]) - of_p * of_q * scale
        w[QQ * LANES + i] = a * (a * vv + w[_QQR * LANES + i]) - of_q * of_q * scale


@kernel
def work_lanes(n):
    """Return the work space of windows of ``n`` samples."""
    size = n * LANES
    return (
        np.zeros(size), np.zeros(_ROWS * LANES), np.empty(size), np.empty(size), np.empty(size)
    )  # fmt: skip


@borrowing
def evaluate(logs, work):
    """Compute, in every lane, what is left and its derivatives; ``work`` holds all of it."""
    y, w, x, u, f = work
    add_functions(y, logs, w, x, u, f)
    add_residuals(y, logs.size, w, x, u, f)
    differentiate(logs.size, w)


@borrowing
def to_lane(window, lane, y):
    """Copy a window to a lane."""
    for k in range(window.size):
        y[k * LANES + lane] = window[k]


@kernel
def go_down(windows, logs, of, starts, bounds, enough, work, ends):
    """Go downhill from many starts; a way does not depend on the others.

    Parameters
    ----------
    windows, logs
        Centred windows, shape (W, n), and the logarithms of their times, shape (n,).
    of, starts, bounds
        For each way its window, and ``p`` and ``q`` where it begins; the least and greatest ones.
        Shapes (T,), (T, 2) and (2, 2).
    enough
        As in :func:`.newton_lanes.step_all`.
    work
        :func:`work_lanes`.
    ends
        Gets ``p`` and ``q`` where the way ends, and what that says.  Shape (T, 4).
    """
    y, w = work[0], work[1]
    way = np.full(LANES, -1)
    n_ways = of.size
    w[:] = 0.0
    idle(w)
    begun = busy = min(n_ways, LANES)
    for i in range(begun):
        way[i] = i
        to_lane(windows[of[i]], i, y)
        # On residuals nothing has to be taken off a sum of squares.
        begin(STRETCHED, 0.0, starts[i], bounds, i, w)
    while busy > 0:
        evaluate(logs, work)
        step_all(w, enough)
        for i in range(LANES):
            j = way[i]
            if j < 0 or w[ENDED * LANES + i] == 0.0:
                continue
            ends[j, 0], ends[j, 1] = w[P * LANES + i], w[Q * LANES + i]
            ends[j, 2], ends[j, 3] = w[LEFT * LANES + i], w[DOUBTED * LANES + i]
            way[i] = -1
            if begun < n_ways:
                way[i] = begun
                if of[begun] != of[j]:
                    to_lane(windows[of[begun]], i, y)
                begin(STRETCHED, 0.0, starts[begun], bounds, i, w)
                begun += 1
            else:
                busy -= 1


@borrowing
def copy_lane(w, lane, n, first, mean, total, products, row):
    """Copy the fit of a lane to its row; tell how it ended.

    Parameters
    ----------
    w, lane
        Work space after :func:`evaluate`.
    n, first, mean, total
        Of the window: its samples, the first one, the mean beyond that, and the sum of squares.
    products
        Work space.  Shape (4, 4).
    row
        Gets the fit.  Shape (12,).
    """
    row[:] = math.nan
    a, rss = w[_AMPLITUDE * LANES + lane], w[_RSS * LANES + lane]
    row[FIRST] = math.exp(w[P * LANES + lane])
    row[SECOND] = math.exp(w[Q * LANES + lane])
    row[A_1] = a
    # The centred function begins with minus its mean, where it was 0.
    row[OFFSET] = -a * (w[_MEAN_F * LANES + lane] + 1.0) + (first + mean)
    row[R2], row[RSS] = 1.0 - rss / total, rss
    products[0, 0] = w[_FF * LANES + lane]
    products[1, 0], products[2, 0] = a * w[_SF * LANES + lane], a * w[_XF * LANES + lane]
    products[1, 1] = a * a * w[_SS * LANES + lane]
    products[2, 1], products[2, 2] = (
        a * a * w[_SX * LANES + lane], a * a * w[_XX * LANES + lane]
    )  # fmt: skip
    errors_of_products(products, 1, n, w[_NEAR * LANES + lane], total, row)
    far = is_far(w[_WORST * LANES + lane], rss, n, _N_UNKNOWNS)
    return OUTLIER if far else FIT_OK


@borrowing
def fill_starts(yt, basis, by_node, n_beta, space, starts, found):
    """Fill in where ways begin, of ``LANES`` windows, and how many there are.

    Parameters
    ----------
    yt
        From :func:`.pair_starts.centre`.
    basis, by_node
        Coordinates in which the functions at the nodes are, and these.  Shapes (n, r) and
        (r, K * n_beta).
    n_beta
        Nodes of beta.
    space
        :func:`start_space`.
    starts, found
        As in :func:`.pair_starts.find_maxima`.
    """
    coordinates, products, sums, gain, rows, marks = space
    r, n_nodes = by_node.shape
    multiply(yt, basis, r, basis.shape[0], sums, coordinates)
    multiply(coordinates, by_node, n_nodes, r, sums, products)
    for k in range(n_nodes):
        i, j = k // n_beta, k % n_beta
        for lane in range(LANES):
            c = products[k * LANES + lane]
            gain[i + 1, j + 1, lane] = c * c
    find_maxima(gain, False, rows, marks, starts, found)


@kernel
def start_space(r, n_p, n_beta):
    """Return the work space of :func:`fill_starts`."""
    wide = n_beta + 2
    return (
        np.empty(r * LANES),
        np.empty(n_p * n_beta * LANES),
        np.empty(4 * LANES),
        np.full((n_p + 2, wide, LANES), -math.inf),
        np.full((n_p + 2, wide * LANES), -math.inf),
        np.empty(wide * LANES),
    )


@kernel
def fit_stretched(y, starts, p, q, bounds, grid, basis, by_node, rows, codes):
    """Fit stretched exponentials to windows of one length, of even samples.

    Parameters
    ----------
    y, starts, rows, codes
        As in :func:`.mixtures.fit_model`.
    p, q, bounds, grid
        As :func:`.mixtures.fit_window` takes them, of this length.
    basis, by_node
        As in :func:`fill_starts`.
    """
    limits = limits_of(y)
    n, r = basis.shape
    t = np.arange(float(n))
    logs, earlier = np.log(t), np.log(t + 1.0)
    no_gram, no_space = grid[:0], (np.empty((0, 0)), np.empty((0, 0, 0)), 0.0)
    work, space = work_lanes(n), start_space(r, p.size, q.size)
    yt, about = np.empty(n * LANES), np.empty(N_ABOUT * LANES)
    windows, of_window = np.empty((BLOCK, n)), np.empty((BLOCK, 2))
    sound = np.empty(BLOCK, np.bool_)
    begun, maxima = np.empty((LANES, MOST_STARTS, 2), np.int64), np.empty(LANES, np.int64)
    most = BLOCK * MOST_STARTS
    of, ways, ends = np.empty(most, np.int64), np.empty((most, 2)), np.empty((most, 4))
    best, begins = np.empty((BLOCK, 3)), np.empty(LANES, np.int64)
    products = np.empty((4, 4))
    for block in range(0, starts.size, BLOCK):
        here = min(BLOCK, starts.size - block)
        of_block = starts[block : block + here]
        of_rows, of_codes = rows[block : block + here], codes[block : block + here]
        found = 0
        for group in range(0, here, LANES):
            for i in range(LANES):
                begins[i] = of_block[min(group + i, here - 1)]
            centre(y, begins, n, yt, about)
            fill_starts(yt, basis, by_node, q.size, space, begun, maxima)
            for i in range(min(LANES, here - group)):
                j = group + i
                of_window[j] = about[MEAN * LANES + i], about[TOTAL * LANES + i]
                sound[j] = (
                    SMALLEST < about[TOTAL * LANES + i] < LARGEST
                    and about[HIGHEST * LANES + i] < OVERFLOW
                )
                for k in range(n):
                    windows[j, k] = yt[k * LANES + i]
                for k in range(maxima[i] if sound[j] else 0):
                    of[found] = j
                    ways[found, 0], ways[found, 1] = p[begun[i, k, 0]], q[begun[i, k, 1]]
                    found += 1
        go_down(windows, logs, of[:found], ways[:found], bounds, NEARLY, work, ends[:found])
        best[:] = math.inf
        for k in range(found):
            j = of[k]
            sound[j] &= ends[k, 3] == 0.0
            if ends[k, 2] < best[j, 0]:
                best[j, 0], best[j, 1], best[j, 2] = ends[k, 2], ends[k, 0], ends[k, 1]
        found = 0
        for j in range(here):
            if sound[j] and best[j, 0] < math.inf:
                of[found] = j
                ways[found] = best[j, 1:]
                found += 1
                continue
            a = of_block[j]
            of_codes[j] = fit_window(
                y[a : a + n], t, True, STRETCHED, p, q, bounds, grid, no_gram, no_space, limits,
                of_rows[j],
            )  # fmt: skip
        for group in range(0, found, LANES):
            for i in range(min(LANES, found - group)):
                to_lane(windows[of[group + i]], i, work[0])
                work[1][P * LANES + i], work[1][Q * LANES + i] = ways[group + i]
            evaluate(logs, work)
            for i in range(min(LANES, found - group)):
                j = of[group + i]
                mean, total = of_window[j]
                of_codes[j] = copy_lane(
                    work[1], i, n, y[of_block[j]], mean, total, products, of_rows[j]
                )
        # The switch is somewhere between two samples.
        go_down(windows, earlier, of[:found], ways[:found], bounds, ROUGHLY, work, ends[:found])
        for k in range(found):
            j, a = of[k], of_block[of[k]]
            if is_clipped(y[a : a + n], limits):
                of_codes[j] = CLIPPED
                continue
            row = of_rows[j]
            row[SE_FIRST] = math.hypot(row[SE_FIRST], math.exp(ends[k, 0]) - row[FIRST])
            row[SE_SECOND] = math.hypot(row[SE_SECOND], math.exp(ends[k, 1]) - row[SECOND])
