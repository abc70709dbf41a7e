"""Fit ``y = alpha exp(-t / tau) + beta`` to one window.

A rise ``A (1 - exp(-t / tau)) + C`` has ``alpha = -A``, ``beta = A + C``; a decay
``A exp(-t / tau) + C`` has ``alpha = A``, ``beta = C``: the sign of ``alpha`` says which process
the window holds.  For a given ``tau`` both models are linear, so only ``theta = ln tau`` is left
to search (variable projection [1]_): with ``f = exp(-t / tau) - 1`` and ``<., .>`` the product of
centred vectors, ``alpha = <f, y> / <f, f>``, ``RSS = <y, y> - <f, y>^2 / <f, f>``, and the optimum
is where the residual is orthogonal to ``h = df/dtheta = (t / tau) exp(-t / tau)``.

Everything is computed from ``f`` and not from ``exp``: where ``tau`` is much longer than the
window, ``exp`` is 1 plus the part that matters, and the part would drown in rounding.

Dimension letters: n samples of a window.

References
----------
.. [1] Golub & Pereyra (1973), SIAM J. Numer. Anal. 10, 413. doi:10.1137/0710036
"""

from __future__ import annotations

import math

import numpy as np

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.tau_grid import TAU_MAX, TAU_MIN, node_rates

#: Distance of the nodes from which a single fit starts: arc for even samples, else in ln tau.
NODE_ARC = 0.1
NODE_SPACING = 0.125
#: A fit explains a window only if F = (R2 / 2) / ((1 - R2) / (n - 3)) exceeds this.  In noise alone
#: a window chosen beforehand passes with a probability of 3e-4 (F(2, 38), 41 samples).
F_MIN = 10.0

#: How a fit ended.  All but ``FIT_OK`` and ``NOISE`` leave NaN in the row.
FIT_OK, FLAT, STRAIGHT, STEP, OPPOSITE, NOISE, NOT_FINITE, TOO_FEW = range(8)

#: Columns of the row that describes a fit.
TAU, AMPLITUDE, OFFSET, R2, R2_ADJUSTED, SE_TAU, SE_AMPLITUDE, SE_OFFSET = range(8)
N_COLUMNS = 8

#: The process to fit: the better of both, a decay (alpha > 0), a rise (alpha < 0).
EITHER, DECAY, RISE = 0, 1, -1


@borrowing
def exponential_sums(y, t, even, rate, free, base):
    """Return the sums from which alpha, the gradient and the curvature follow.

    Parameters
    ----------
    y
        Samples, centred where ``free``.  Shape (n,).
    t
        Time since the first sample; unused where ``even``.  Shape (n,).
    even
        Whether ``t`` is 0, 1, 2, ...
    rate
        ``1 / tau``.
    free
        Whether the model has a free constant, which is then projected out of every vector.
    base
        The basis vector is ``f + base``; 1 for a decay to a fixed constant, else 0.

    Returns
    -------
    Sums over the window of b, h, b b, b h, h h, b q, b y, h y, q y, with ``q = dh/dtheta``; and
    ``f`` at the last sample.
    """
    n = y.size
    drop = math.expm1(-rate)
    f = 0.0
    sb = sh = sq = sbb = sbh = shh = sbq = sby = shy = sqy = 0.0
    last = 0.0
    for k in range(n):
        if even:
            z = k * rate
        else:
            z = t[k] * rate
            f = math.expm1(-z)
        b = f + base
        h = z * (1.0 + f)
        q = h * (z - 1.0)
        sb += b
        sh += h
        sq += q
        sbb += b * b
        sbh += b * h
        shh += h * h
        sbq += b * q
        sby += b * y[k]
        shy += h * y[k]
        sqy += q * y[k]
        last = f
        # No cancellation: f and drop are both negative.
        f += drop * (1.0 + f)
    if free:
        sbb -= sb * sb / n
        sbh -= sb * sh / n
        shh -= sh * sh / n
        sbq -= sb * sq / n
    return sb, sh, sbb, sbh, shh, sbq, sby, shy, sqy, last


@borrowing
def correlation(y, t, even, rate, free, base):
    """Return ``<b, y> / |b|``, whose square is the part of ``<y, y>`` that the model explains."""
    n = y.size
    drop = math.expm1(-rate)
    rho = 1.0 + drop
    f = 0.0
    sb = sbb = sby = 0.0
    for k in range(n):
        if not even:
            f = math.expm1(-t[k] * rate)
        b = f + base
        sb += b
        sbb += b * b
        sby += b * y[k]
        f = rho * f + drop
    if free:
        sbb -= sb * sb / n
    # Times that start long after the origin leave no exponential at small tau.
    return sby / math.sqrt(sbb) if sbb > 0.0 else 0.0


@borrowing
def refine(y, t, even, low, high, theta, sign, free, base):
    """Return ``theta = ln tau`` of the best fit between two grid nodes.

    Newton's method on the condition that the residual is orthogonal to ``h``, with bisection
    wherever a step leaves the bracket or the curvature has the wrong sign.

    Parameters
    ----------
    y, t, even, free, base
        As in :func:`exponential_sums`.
    low, high
        Bracket: the fit improves upwards at ``low`` and downwards at ``high``.
    theta
        First guess inside the bracket.
    sign
        ``DECAY`` or ``RISE``.
    """
    for _ in range(100):
        _, _, sbb, sbh, shh, sbq, sby, shy, sqy, _ = exponential_sums(
            y, t, even, math.exp(-theta), free, base
        )
        alpha = sby / sbb
        gradient = shy - alpha * sbh
        curvature = (sqy - alpha * sbq) - alpha * (shh - sbh * sbh / sbb) - gradient * sbh / sbb
        if gradient * sign > 0.0:
            low = theta
        else:
            high = theta
        step = math.inf
        if curvature * sign < 0.0:
            step = -gradient / curvature
        new = theta + step
        newton = low <= new <= high
        if not newton:
            new = 0.5 * (low + high)
        moved = abs(new - theta)
        theta = new
        # Newton's error squares in every step: 1e-8 before it is rounding after it.
        if (newton and moved <= 1e-8) or high - low <= 1e-15:
            break
    return theta


@kernel
def single_nodes(n, even):
    """Return the rates from which the fit of one window of ``n`` samples starts."""
    if even:
        return node_rates(n, NODE_ARC)
    span = math.log(TAU_MAX * n / TAU_MIN)
    n_nodes = math.ceil(span / NODE_SPACING) + 1
    rates = np.empty(n_nodes)
    for k in range(n_nodes):
        rates[k] = math.exp(-span * k / (n_nodes - 1)) / TAU_MIN
    return rates


@kernel
def best_theta(y, t, even, rates, sign, free, base):
    """Find the best fit of one sign over the whole range of tau.

    All nodes are tried, then every local maximum is refined.

    Parameters
    ----------
    y, t, even, sign, free, base
        As in :func:`refine`.
    rates
        Nodes, decreasing.  Shape (K,).

    Returns
    -------
    ``theta``, the :func:`correlation` there (0 if no fit has this sign), and ``FIT_OK``,
    ``STRAIGHT``, ``STEP`` or ``OPPOSITE``.
    """
    last = rates.size - 1
    node = np.empty(rates.size)
    for k in range(rates.size):
        node[k] = sign * correlation(y, t, even, rates[k], free, base)
    best = 0.0
    best_at = math.nan
    code = OPPOSITE
    low_end = -math.log(rates[0])
    high_end = -math.log(rates[last])
    for k in range(rates.size):
        if k > 0 and node[k - 1] > node[k]:
            continue
        if k < last and node[k + 1] >= node[k]:
            continue
        if not node[k] > 0.0:
            continue
        theta = refine(
            y,
            t,
            even,
            -math.log(rates[max(k - 1, 0)]),
            -math.log(rates[min(k + 1, last)]),
            -math.log(rates[k]),
            sign,
            free,
            base,
        )
        value = sign * correlation(y, t, even, math.exp(-theta), free, base)
        if value > best:
            best = value
            best_at = theta
            code = FIT_OK
            # The bracket ends at the range: a maximum there is not one of the function.
            if theta - low_end <= 1e-6:
                code = STEP
            elif high_end - theta <= 1e-6:
                code = STRAIGHT
    return best_at, best, code


@borrowing
def describe(y, t, even, theta, sign, free, base, tss, row):
    """Fill ``row`` with the fit at ``theta``, all numbers in units of ``y`` and ``t``.

    Standard errors are those of ``scipy.optimize.curve_fit`` with its default
    ``absolute_sigma=False``: the inverse of ``J^T J`` for (tau, A, C), times ``RSS / (n - p)``.

    Parameters
    ----------
    y, t, even, sign, free, base
        As in :func:`refine`.
    tss
        Sum of squares of ``y`` about its mean.
    row
        Gets the columns ``TAU`` ... ``SE_OFFSET``; ``OFFSET`` relative to the zero of ``y``.
    """
    n = y.size
    p = 3 if free else 2
    rate = math.exp(-theta)
    sb, sh, sbb, sbh, shh, _, sby, _, _, _ = exponential_sums(y, t, even, rate, free, base)
    alpha = sby / sbb
    mean_b = sb / n if free else 0.0
    drop = math.expm1(-rate)
    f = 0.0
    rss = 0.0
    for k in range(n):
        if not even:
            f = math.expm1(-t[k] * rate)
        residual = y[k] - alpha * (f + base - mean_b)
        rss += residual * residual
        f += drop * (1.0 + f)
    r2 = 1.0 - rss / tss
    determinant = sbb * shh - sbh * sbh
    variance = rss / (n - p) if n > p else math.inf
    tau = 1.0 / rate
    row[TAU] = tau
    row[AMPLITUDE] = abs(alpha)
    row[R2] = r2
    row[R2_ADJUSTED] = 1.0 - (1.0 - r2) * (n - 1) / (n - p - 1) if n > p + 1 else math.nan
    row[SE_TAU] = tau / abs(alpha) * math.sqrt(variance * sbb / determinant)
    row[SE_AMPLITUDE] = math.sqrt(variance * shh / determinant)
    if free:
        # C is the curve's level where its own basis vector is 0: exp = 0 for a decay (t = oo),
        # 1 - exp = 0 for a rise (t = 0).
        m_b = mean_b + 1.0 if sign == DECAY else mean_b
        m_h = sh / n
        row[OFFSET] = -alpha * m_b
        leverage = (m_b * m_b * shh - 2.0 * m_b * m_h * sbh + m_h * m_h * sbb) / determinant
        row[SE_OFFSET] = math.sqrt(variance * (1.0 / n + leverage))
    else:
        row[OFFSET] = 0.0
        row[SE_OFFSET] = 0.0
    return FIT_OK


@borrowing
def is_noise(r2, n):
    """Tell whether an exponential explains ``n`` samples no better than chance would."""
    return r2 * (n - 3) < 2.0 * F_MIN * (1.0 - r2)


@borrowing
def scale_window(y, fixed, scaled):
    """Centre a window (or subtract the fixed constant) and divide by a power of two.

    Returns
    -------
    The zero of ``scaled`` in units of ``y``, the power of two, the sum of squares about the mean
    in scaled units, and ``FIT_OK``, ``NOT_FINITE`` or ``FLAT``.
    """
    n = y.size
    total = 0.0
    largest = 0.0
    for k in range(n):
        scaled[k] = y[k] - y[0]
        total += scaled[k]
        largest = max(largest, abs(y[k]))
    if not math.isfinite(total):
        return math.nan, math.nan, math.nan, NOT_FINITE
    mean = total / n
    widest = 0.0
    for k in range(n):
        scaled[k] -= mean
        widest = max(widest, abs(scaled[k]))
    # Samples that differ by no more than the rounding of their own recording (2 ulp) are equal.
    if widest <= largest * 2.0**-51:
        return math.nan, math.nan, math.nan, FLAT
    # A power of two, so that scaling itself never rounds; y may be 1e-300 or 1e300.
    unit = 2.0 ** math.frexp(widest)[1]
    rest = 0.0
    for k in range(n):
        scaled[k] /= unit
        rest += scaled[k]
    rest /= n
    tss = 0.0
    for k in range(n):
        # The second pass removes what rounding left of the mean.
        scaled[k] -= rest
        tss += scaled[k] * scaled[k]
    if math.isnan(fixed):
        return y[0] + mean + rest * unit, unit, tss, FIT_OK
    for k in range(n):
        scaled[k] = (y[k] - fixed) / unit
    return fixed, unit, tss, FIT_OK


@kernel
def fit_exponential(y, t, process, fixed, row):
    """Fit one window and describe the global optimum.

    Parameters
    ----------
    y
        Samples.  Shape (n,), any unit.
    t
        Times of the samples since the origin of the model, increasing, not negative.  Shape (n,);
        shape (0,) stands for 0, 1, 2, ...
    process
        ``DECAY`` (the curve falls), ``RISE`` or ``EITHER``.
    fixed
        Value at which the constant ``C`` is held; NaN fits it.
    row
        Gets the columns ``TAU`` ... ``SE_OFFSET``, in units of ``t`` and ``y``; NaN where there is
        no answer.  Shape (8,).

    Returns
    -------
    How it ended (``FIT_OK`` ... ``TOO_FEW``), and the process found.
    """
    n = y.size
    row[:] = math.nan
    free = math.isnan(fixed)
    if n < (4 if free else 3):
        return TOO_FEW, process
    scaled = np.empty(n)
    zero, unit, tss, code = scale_window(y, fixed, scaled)
    if code != FIT_OK:
        return code, process
    even = t.size == 0
    spacing = 1.0
    z = t
    if not even:
        spacing = (t[n - 1] - t[0]) / (n - 1)
        z = t / spacing
    rates = single_nodes(n, even)
    best = 0.0
    theta = math.nan
    chosen = process
    code = OPPOSITE
    for sign in (DECAY, RISE):
        if process == -sign:
            continue
        base = 0.0 if free or sign == RISE else 1.0
        at, value, ended = best_theta(scaled, z, even, rates, sign, free, base)
        if value > best:
            best = value
            theta = at
            chosen = sign
            code = ended
    if code != FIT_OK:
        return code, chosen
    base = 0.0 if free or chosen == RISE else 1.0
    describe(scaled, z, even, theta, chosen, free, base, tss, row)
    to_units(row, unit, zero, spacing)
    if free and is_noise(row[R2], n):
        code = NOISE
    return code, chosen


@borrowing
def to_units(row, unit, zero, spacing):
    """Bring a row from scaled units to those of the data."""
    row[TAU] *= spacing
    row[SE_TAU] *= spacing
    row[AMPLITUDE] *= unit
    row[SE_AMPLITUDE] *= unit
    row[OFFSET] = row[OFFSET] * unit + zero
    row[SE_OFFSET] *= unit
