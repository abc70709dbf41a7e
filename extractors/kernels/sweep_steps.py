"""Steps of the current between two points of a sweep, as a change of range or a bad contact makes.

A polynomial that goes on through the step, and the step, are fitted to windows of several widths.

Dimension letters: m points of a branch, n points of a window.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors.kernels.compiled import borrowing, kernel
from oectflow.extractors.kernels.sweep_noise import LN10, deviation_at

#: Windows about a step: points before it, points behind it, degree of the polynomial, and how many
#: of its standard errors by the residuals the step has to be.  Logistic, softplus and square laws
#: on a floor, sampled at 21 points or more, reach 2.2, 2.6, 2.7, 3.3, 3.9 and 4.9 of them on one of
#: the two scales, and 3.0 at an end; a kink reaches 3.4 in the first two.
WINDOWS = (
    (3, 3, 2, 3.8),
    (4, 4, 2, 3.7),
    (4, 4, 3, 3.2),
    (6, 6, 3, 3.8),
    (8, 8, 3, 4.5),
    (12, 12, 3, 5.5),
    (20, 20, 3, 6.5),
    (2, 6, 2, 4.0),
    (6, 2, 2, 4.0),
)
AT_BEGIN, AT_END = len(WINDOWS) - 2, len(WINDOWS) - 1
#: Most points of a window, and most functions: a polynomial of degree 3, and the step.
LONGEST = 40
FUNCTIONS = 5
#: Where the current changes its sign, there is only one scale, on which a curve may be steep.
ONE_SCALE = 1.6
#: Excesses over neighbouring changes that are worth a closer look, in standard deviations of a
#: point.  Those on both sides of a step are half as large and have the other sign, so that together
#: they make 1.5 of it; those of a curve make next to nothing.
WORTH = 3.0
ALONE = 0.75
#: Steps of so many standard errors that are too small to be named go into the errors.
SUSPECT = 5.0
#: Factor by which a step has to be larger than single points may be off: the noise of steps is
#: known less well.
SURER = 1.15
#: Below this share of the current, a step has to be larger still: errors that cover it suffice.
SMALL = 0.03
SURER_SMALL = 1.8
#: A share of the largest current that an instrument in its range may not see.
UNSEEN = 0.01
#: Points on either side of a step that tell the noise around it.
AROUND = 8
#: Errors grow by this share of a step that may be there.  At points of larger current they grow in
#: proportion to it, if the step is no more than this share of the current where it is.
SHARE = 0.25
GAIN = 0.3


def even_bases() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what :func:`fill_basis` does, for all windows of even voltages."""
    bases = np.zeros((len(WINDOWS), FUNCTIONS, LONGEST))
    units = np.empty(len(WINDOWS))
    for basis, (i, (before, behind, degree, _)) in zip(bases, enumerate(WINDOWS), strict=True):
        n = before + behind
        columns = np.vander(np.linspace(-1.0, 1.0, n), degree + 1, increasing=True)
        found, triangle = np.linalg.qr(np.column_stack([columns, np.arange(n) >= before]))
        basis[: degree + 2, :n] = found.T
        units[i] = 1.0 / abs(triangle[-1, -1])
    return bases, units


BASES, UNITS = even_bases()


@borrowing
def take_off(row, basis, functions, n):
    """Subtract what the first functions of a basis explain of ``n`` values, one after the other."""
    for q in range(functions):
        share = 0.0
        for j in range(n):
            share += basis[q, j] * row[j]
        for j in range(n):
            row[j] -= share * basis[q, j]


@borrowing
def fill_basis(x, before, degree, basis):
    """Fill in orthonormal functions: powers of the voltage, and what they leave of a step.

    Parameters
    ----------
    x
        Voltages of a window.  Shape (n,).
    before
        Number of points before the step.
    degree
        Degree of the polynomial.
    basis
        Gets the functions, the step after the powers.  Shape (``degree`` + 2, n) or more.

    Returns
    -------
    Standard error of the step for noise of 1.
    """
    n = x.size
    middle = 0.5 * (x[0] + x[n - 1])
    half = abs(x[n - 1] - middle)
    length = 1.0
    for q in range(degree + 2):
        row = basis[q]
        for j in range(n):
            if q == degree + 1:
                row[j] = 1.0 if j >= before else 0.0
            elif q == 0:
                row[j] = 1.0
            else:
                row[j] = basis[q - 1, j] * (x[j] - middle) / half
        take_off(row, basis, q, n)
        length = 0.0
        for j in range(n):
            length += row[j] * row[j]
        length = math.sqrt(length)
        for j in range(n):
            row[j] /= length
    return 1.0 / length


@borrowing
def step_share(y, row):
    """Return the step of a window over its standard error for noise of 1, without a sign."""
    share = 0.0
    for j in range(y.size):
        share += row[j] * y[j]
    return abs(share)


@borrowing
def residual_of(y, functions, basis, rest):
    """Return the standard deviation of the residuals of a window.

    Parameters
    ----------
    y
        Ordinates.  Shape (n,).
    functions, basis
        Number of functions, and these, as :func:`fill_basis` fills them.
    rest
        Room.  Shape (LONGEST,).
    """
    n = y.size
    for j in range(n):
        rest[j] = y[j] - y[0]
    take_off(rest, basis, functions, n)
    total = 0.0
    for j in range(n):
        total += rest[j] * rest[j]
    return math.sqrt(total / (n - functions))


@borrowing
def noise_around(x, y, k):
    """Return the noise of the points around a step, by their third differences.

    The third difference of four points has sqrt(20) times the noise of one.

    Parameters
    ----------
    x, y
        Voltages and ordinates of a branch.  Shape (m,).
    k
        The step is between this point and the next one.

    Returns
    -------
    The standard deviation of one point, infinity where there are too few.
    """
    total = 0.0
    points = 0
    h = x[k + 1] - x[k]
    for j in range(max(k - AROUND + 1, 0), min(k + AROUND - 2, y.size - 3)):
        if j + 3 > k >= j:
            continue
        before = (y[j + 1] - y[j]) / (x[j + 1] - x[j])
        at = (y[j + 2] - y[j + 1]) / (x[j + 2] - x[j + 1])
        behind = (y[j + 3] - y[j + 2]) / (x[j + 3] - x[j + 2])
        third = (behind - 2.0 * at + before) * h
        total += third * third
        points += 1
    return math.sqrt(total / (20.0 * points)) if points > 2 else math.inf


@borrowing
def look_at(x, y, z, k, even, sigma, bar, own, rest):
    """Ask windows about a step between points k and k + 1.

    A step is a step on both scales; a curve that is too steep for one of them is smooth on the
    other one.

    Parameters
    ----------
    x, y, z
        A branch without repeated voltages: V, A, and log10 |Id|.  Shape (m,).
    even
        Whether the voltages are even.
    sigma
        Standard deviation of the noise there, A.
    bar
        How many standard errors a step has to be.
    own, rest
        Room.  Shapes (FUNCTIONS, LONGEST) and (LONGEST,).

    Returns
    -------
    Whether there is a step, and the size of one that may be there, A.
    """
    m = x.size
    suspect = 0.0
    large = max(abs(y[k]), abs(y[k + 1]))
    asked = False
    for i in range(len(WINDOWS)):
        if (i == AT_BEGIN and k != 1) or (i == AT_END and k != m - 3):
            continue
        before, behind, degree, rough = WINDOWS[i]
        first = k - before + 1
        n = before + behind
        if first < 0 or first + n > m:
            continue
        window = slice(first, first + n)
        basis = BASES[i]
        unit = UNITS[i]
        if not even:
            unit = fill_basis(x[window], before, degree, own)
            basis = own
        share = step_share(y[window], basis[degree + 1])
        if not share > SUSPECT * sigma:
            continue
        if not asked:
            asked = True
            around = noise_around(x, y, k)
            if around > sigma:
                # Where the current is steep, this is curvature, unless its logarithm has it, too.
                on_log = LN10 * noise_around(x, z, k) * large
                sigma = max(sigma, around if math.isnan(on_log) else min(around, on_log))
            if not share > SUSPECT * sigma:
                continue
        residual = residual_of(y[window], degree + 2, basis, rest)
        if not share > 0.6 * rough * residual:
            continue
        alike = True
        for j in range(first, first + n):
            alike = alike and y[j] * y[k] > 0.0
        size = share * unit
        surer = SURER_SMALL if size < SMALL * large else SURER
        found = share > surer * bar * sigma
        if alike:
            log = step_share(z[window], basis[degree + 1])
            log_residual = residual_of(z[window], degree + 2, basis, rest)
            if not log > 0.6 * rough * log_residual:
                continue
            found = found and share > rough * residual and log > rough * log_residual
        else:
            found = found and share > ONE_SCALE * rough * residual
        suspect = max(suspect, size)
        if found:
            return True, suspect
    return False, suspect


@borrowing
def excess(x, y, k, even):
    """Return how much more the current changes between points k and k + 1 than on both sides."""
    if even:
        return 1.5 * (y[k + 1] - y[k]) - 0.5 * (y[k + 2] - y[k - 1])
    one = (y[k] - y[k - 1]) / (x[k] - x[k - 1])
    other = (y[k + 2] - y[k + 1]) / (x[k + 2] - x[k + 1])
    return y[k + 1] - y[k] - 0.5 * (one + other) * (x[k + 1] - x[k])


@kernel
def find_steps(x, y, z, noise, classes, bar, quantum):
    """Tell whether the current of a branch steps where the curve before and behind does not.

    Parameters
    ----------
    x, y, z
        A branch without repeated voltages: V, A, and log10 |Id|.  Shape (m,).
    noise, classes
        Its noise, as :func:`.sweep_noise.noise_of` fills and returns it.
    bar
        How many standard errors a step has to be.
    quantum
        Step of the converter, A.

    Returns
    -------
    Whether it does; the size of the largest step that may be there, A; and the current there, A.
    """
    m = x.size
    if m < 4:
        return False, 0.0, 0.0
    own = np.empty((FUNCTIONS, LONGEST))
    rest = np.empty(LONGEST)
    suspect = 0.0
    at = 0.0
    least = WORTH * noise[1, classes - 1]
    top = 0.0
    for k in range(m):
        top = max(top, abs(y[k]))
    even = is_even(x)
    before = 0.0
    more = excess(x, y, 1, even)
    for k in range(1, m - 2):
        behind = excess(x, y, k + 1, even) if k < m - 3 else 0.0
        alone = more - 0.5 * (before + behind)
        here = more
        before = more
        more = behind
        if not (abs(here) > least and alone * here > ALONE * here * here):
            continue
        large = max(abs(y[k]), abs(y[k + 1]))
        decades = z[k] if abs(y[k]) >= large else z[k + 1]
        sigma = max(deviation_at(noise, classes, large, decades), 0.29 * quantum)
        if not abs(here) > WORTH * sigma:
            continue
        # Where readings of 0 end, the current begins to be seen.
        if y[k] * y[k + 1] == 0.0 and large < UNSEEN * top:
            continue
        found, size = look_at(x, y, z, k, even, sigma, bar, own, rest)
        if found:
            return True, size, large
        if size > suspect:
            suspect = size
            at = large
    return False, suspect, at


@borrowing
def is_even(x):
    """Tell whether the voltages of a branch are even.  Shape (m,), m >= 2."""
    h = x[1] - x[0]
    near = 0.5e-2 * abs(h)
    odd = 0
    for k in range(1, x.size):
        odd += abs(x[k] - x[k - 1] - h) > near
    return odd == 0


@borrowing
def allow_for(y, step, at, sigma):
    """Let the standard deviations of a branch grow by a step that may be there.

    Parameters
    ----------
    y
        Currents of the branch, A.  Shape (m,).
    step, at
        The step, and the current where it is, A.
    sigma
        Standard deviations, changed in place, A.  Shape (m,).
    """
    for k in range(y.size):
        share = abs(y[k]) / at
        if share > 1.0 and step > GAIN * at:
            share = 1.0
        sigma[k] = math.hypot(sigma[k], SHARE * step * share)
