"""Two exponentials with a constant: the last digits of fits, and their errors, side by side.

The optimum that :mod:`.pair_search` has found is worked out from the samples, by Newton's method
on what residuals say.  Every loop over the samples has an innermost loop over the windows, as in
:mod:`.simd_fit`: what a window says does not depend on those beside it.

Dimension letters: n samples of a window.
"""

from __future__ import annotations

import math

from numba import njit

from oectflow.extractors.kernels.compiled import borrowing
from oectflow.extractors.kernels.downhill import LEAST_APART, SINGULAR
from oectflow.extractors.kernels.lane_math import exponential, less_one
from oectflow.extractors.kernels.pair_starts import LANES

#: Step whose square is rounding, so that it changes only the unknowns, to first order; and the most
#: looks at the samples.
DONE, MOST = 1e-7, 8
#: Correlation of neighbouring residuals, at most.
MOST_PHI = 0.99

# Rows of the work space: rates and functions, sums over samples, over residuals, what follows.
P, Q, _RATE_F, _RATE_G, _DROP_F, _DROP_G, _F, _G = range(8)
(
    _SF, _SG, _SU, _SV, _FF, _FG, _GG, _FY, _GY, _UF, _UG, _VF, _VG, _UU, _UV, _VV
) = range(8, 24)  # fmt: skip
A_1, A_2, RSS, NEAR, WORST, _BEFORE, _UR, _VR, _KR, _LR, _FR, _GR = range(24, 36)
_STEP_P, _STEP_Q, _MOVED = range(36, 39)
SE_P, SE_Q, SE_1, SE_2, PHI, OFFSET = range(39, 45)
P_LOW, P_HIGH, Q_LOW, Q_HIGH, TOTAL, STATE = range(45, 51)
_A_BY_P, _A_BY_Q, _B_BY_P, _B_BY_Q = range(51, 55)
ROWS = 55


@njit(inline="always", error_model="numpy")
def slope(f, z):
    """Return the derivative of ``f = exp(-z) - 1`` by ``ln tau``."""
    return z + z * f


@borrowing
def add_products(y, n, w):
    """Sum up the products of exponentials, their slopes, and the window, in every lane.

    Parameters
    ----------
    y
        Centred windows, sample by sample.  Shape (n * LANES,).
    n
        Samples in a window.
    w
        Work space.  Shape (ROWS * LANES,).
    """
    for i in range(LANES):
        rate_f = exponential(-w[P * LANES + i])
        rate_g = exponential(-w[Q * LANES + i])
        w[_RATE_F * LANES + i] = rate_f
        w[_RATE_G * LANES + i] = rate_g
        w[_DROP_F * LANES + i] = less_one(-rate_f)
        w[_DROP_G * LANES + i] = less_one(-rate_g)
    for i in range(_F * LANES, (_VV + 1) * LANES):
        w[i] = 0.0
    # Two samples per turn, since the sums are in memory.
    whole = n - n % 2
    for k in range(0, whole, 2):
        for i in range(LANES):
            f0, g0 = w[_F * LANES + i], w[_G * LANES + i]
            drop_f, drop_g = w[_DROP_F * LANES + i], w[_DROP_G * LANES + i]
            # No cancellation: exponential and drop are both negative.
            f1 = (f0 + drop_f) + drop_f * f0
            g1 = (g0 + drop_g) + drop_g * g0
            w[_F * LANES + i] = (f1 + drop_f) + drop_f * f1
            w[_G * LANES + i] = (g1 + drop_g) + drop_g * g1
            rate_f, rate_g = w[_RATE_F * LANES + i], w[_RATE_G * LANES + i]
            u0, v0 = slope(f0, k * rate_f), slope(g0, k * rate_g)
            u1, v1 = slope(f1, (k + 1) * rate_f), slope(g1, (k + 1) * rate_g)
            y0, y1 = y[k * LANES + i], y[(k + 1) * LANES + i]
            w[_SF * LANES + i] += f0 + f1
            w[_SG * LANES + i] += g0 + g1
            w[_SU * LANES + i] += u0 + u1
            w[_SV * LANES + i] += v0 + v1
            w[_FF * LANES + i] += f0 * f0 + f1 * f1
            w[_FG * LANES + i] += f0 * g0 + f1 * g1
            w[_GG * LANES + i] += g0 * g0 + g1 * g1
            w[_FY * LANES + i] += f0 * y0 + f1 * y1
            w[_GY * LANES + i] += g0 * y0 + g1 * y1
            w[_UF * LANES + i] += u0 * f0 + u1 * f1
            w[_UG * LANES + i] += u0 * g0 + u1 * g1
            w[_VF * LANES + i] += v0 * f0 + v1 * f1
            w[_VG * LANES + i] += v0 * g0 + v1 * g1
            w[_UU * LANES + i] += u0 * u0 + u1 * u1
            w[_UV * LANES + i] += u0 * v0 + u1 * v1
            w[_VV * LANES + i] += v0 * v0 + v1 * v1
    for k in range(whole, n):
        for i in range(LANES):
            f, g = w[_F * LANES + i], w[_G * LANES + i]
            u, v = slope(f, k * w[_RATE_F * LANES + i]), slope(g, k * w[_RATE_G * LANES + i])
            sample = y[k * LANES + i]
            w[_SF * LANES + i] += f
            w[_SG * LANES + i] += g
            w[_SU * LANES + i] += u
            w[_SV * LANES + i] += v
            w[_FF * LANES + i] += f * f
            w[_FG * LANES + i] += f * g
            w[_GG * LANES + i] += g * g
            w[_FY * LANES + i] += f * sample
            w[_GY * LANES + i] += g * sample
            w[_UF * LANES + i] += u * f
            w[_UG * LANES + i] += u * g
            w[_VF * LANES + i] += v * f
            w[_VG * LANES + i] += v * g
            w[_UU * LANES + i] += u * u
            w[_UV * LANES + i] += u * v
            w[_VV * LANES + i] += v * v
    per_n = 1.0 / n
    for i in range(LANES):
        sf, sg = w[_SF * LANES + i], w[_SG * LANES + i]
        su, sv = w[_SU * LANES + i], w[_SV * LANES + i]
        w[_FF * LANES + i] -= sf * sf * per_n
        w[_FG * LANES + i] -= sf * sg * per_n
        w[_GG * LANES + i] -= sg * sg * per_n
        w[_UF * LANES + i] -= su * sf * per_n
        w[_UG * LANES + i] -= su * sg * per_n
        w[_VF * LANES + i] -= sv * sf * per_n
        w[_VG * LANES + i] -= sv * sg * per_n
        w[_UU * LANES + i] -= su * su * per_n
        w[_UV * LANES + i] -= su * sv * per_n
        w[_VV * LANES + i] -= sv * sv * per_n
        # Cholesky's factor of the products, as in downhill.project.
        first = 1.0 / math.sqrt(w[_FF * LANES + i])
        low = w[_FG * LANES + i] * first
        rest = w[_GG * LANES + i] - low * low
        second = 1.0 / math.sqrt(rest)
        b_1 = w[_FY * LANES + i] * first
        b_2 = (w[_GY * LANES + i] - low * b_1) * second
        a_2 = b_2 * second
        w[A_2 * LANES + i] = a_2
        w[A_1 * LANES + i] = (b_1 - low * a_2) * first


@borrowing
def add_residuals(y, n, w):
    """Sum up what the fits leave, and its products with their slopes and curvatures."""
    per_n = 1.0 / n
    for i in range(LANES):
        w[_F * LANES + i] = -w[_SF * LANES + i] * per_n
        w[_G * LANES + i] = -w[_SG * LANES + i] * per_n
    for i in range(RSS * LANES, (_GR + 1) * LANES):
        w[i] = 0.0
    for k in range(n):
        for i in range(LANES):
            # Here they are centred: f' = f + drop (1 + f + mean).
            f = w[_F * LANES + i]
            g = w[_G * LANES + i]
            whole_f = f + w[_SF * LANES + i] * per_n + 1.0
            whole_g = g + w[_SG * LANES + i] * per_n + 1.0
            r = (y[k * LANES + i] - w[A_1 * LANES + i] * f) - w[A_2 * LANES + i] * g
            z = k * w[_RATE_F * LANES + i]
            h = k * w[_RATE_G * LANES + i]
            u_f = z * whole_f * r
            u_g = h * whole_g * r
            w[_UR * LANES + i] += u_f
            w[_VR * LANES + i] += u_g
            w[_KR * LANES + i] += u_f * z - u_f
            w[_LR * LANES + i] += u_g * h - u_g
            w[_FR * LANES + i] += f * r
            w[_GR * LANES + i] += g * r
            square = r * r
            w[RSS * LANES + i] += square
            w[NEAR * LANES + i] += r * w[_BEFORE * LANES + i]
            w[_BEFORE * LANES + i] = r
            worst = w[WORST * LANES + i]
            w[WORST * LANES + i] = square if square > worst else worst
            w[_F * LANES + i] = f + w[_DROP_F * LANES + i] * whole_f
            w[_G * LANES + i] = g + w[_DROP_G * LANES + i] * whole_g


@borrowing
def newton(w):
    """Compute Newton's step of every lane, as :func:`.downhill.differentiate` and ``hold`` do."""
    for i in range(LANES):
        uf, ug = w[_UF * LANES + i], w[_UG * LANES + i]
        vf, vg = w[_VF * LANES + i], w[_VG * LANES + i]
        ff = w[_FF * LANES + i]
        first = 1.0 / math.sqrt(ff)
        low = w[_FG * LANES + i] * first
        second = 1.0 / math.sqrt(w[_GG * LANES + i] - low * low)
        # Rounding leaves some of the functions in the residuals; it goes to the amplitudes.
        more_1 = w[_FR * LANES + i] * first
        more_b = (w[_GR * LANES + i] - low * more_1) * second * second
        more_a = (more_1 - low * more_b) * first
        a, b = w[A_1 * LANES + i] + more_a, w[A_2 * LANES + i] + more_b
        w[A_1 * LANES + i] = a
        w[A_2 * LANES + i] = b
        ur = w[_UR * LANES + i] - uf * more_a - ug * more_b
        vr = w[_VR * LANES + i] - vf * more_a - vg * more_b
        of_p, of_q = (a * uf - ur) * first, b * vf * first
        then_p = (a * ug - low * of_p) * second
        then_q = (b * vg - vr - low * of_q) * second
        h11 = a * a * w[_UU * LANES + i] - a * w[_KR * LANES + i] - of_p * of_p - then_p * then_p
        h12 = a * b * w[_UV * LANES + i] - of_p * of_q - then_p * then_q
        h22 = b * b * w[_VV * LANES + i] - b * w[_LR * LANES + i] - of_q * of_q - then_q * then_q
        # Derivatives of the amplitudes by the unknowns.
        b_p, b_q = -then_p * second, -then_q * second
        w[_B_BY_P * LANES + i] = b_p
        w[_B_BY_Q * LANES + i] = b_q
        w[_A_BY_P * LANES + i] = (-of_p - low * b_p) * first
        w[_A_BY_Q * LANES + i] = (-of_q - low * b_q) * first
        g1, g2 = -a * ur, -b * vr
        p, q = w[P * LANES + i], w[Q * LANES + i]
        goes1 = (p > w[P_LOW * LANES + i]) | (g1 <= 0.0)
        goes2 = (q < w[Q_HIGH * LANES + i]) | (g2 >= 0.0)
        g1 = g1 if goes1 else 0.0
        g2 = g2 if goes2 else 0.0
        h11 = h11 if goes1 else 1.0
        h22 = h22 if goes2 else 1.0
        h12 = h12 if goes1 & goes2 else 0.0
        determinant = h11 * h22 - h12 * h12
        scale = 1.0 / determinant
        step_p = (h12 * g2 - h22 * g1) * scale
        step_q = (h12 * g1 - h11 * g2) * scale
        minimum = (h11 > 0.0) & (determinant > SINGULAR * h11 * h22)
        apart = q - p > LEAST_APART * 1.01
        moved_p, moved_q = abs(step_p), abs(step_q)
        moved = moved_p if moved_p > moved_q else moved_q
        w[_STEP_P * LANES + i] = step_p
        w[_STEP_Q * LANES + i] = step_q
        w[_MOVED * LANES + i] = moved if minimum & apart else math.inf


@borrowing
def errors(n, w, exact):
    """Compute standard errors of every lane, as :func:`.mixtures.standard_errors` does.

    ``exact`` is the share of its sum of squares below which what is left of a window is rounding;
    ``TOTAL`` holds the sums of squares.
    """
    for i in range(LANES):
        a, b = w[A_1 * LANES + i], w[A_2 * LANES + i]
        ff, fg, gg = w[_FF * LANES + i], w[_FG * LANES + i], w[_GG * LANES + i]
        first = 1.0 / math.sqrt(ff)
        low = fg * first
        rest = gg - low * low
        second = 1.0 / math.sqrt(rest)
        p1, q1 = a * w[_UF * LANES + i] * first, b * w[_VF * LANES + i] * first
        p2 = (a * w[_UG * LANES + i] - low * p1) * second
        q2 = (b * w[_VG * LANES + i] - low * q1) * second
        # What amplitudes leave of the unknowns.
        whole_p, whole_q = a * a * w[_UU * LANES + i], b * b * w[_VV * LANES + i]
        pp = whole_p - p1 * p1 - p2 * p2
        pq = a * b * w[_UV * LANES + i] - p1 * q1 - p2 * q2
        qq = whole_q - q1 * q1 - q2 * q2
        determinant = pp * qq - pq * pq
        scale = 1.0 / determinant
        # Solved for the amplitudes' shares.
        p2 *= second
        q2 *= second
        p1 = (p1 - low * p2) * first
        q1 = (q1 - low * q2) * first
        # The diagonal of the inverse of the products, and what uncertain unknowns add to it.
        over_2 = second * second
        over_1 = first * first * (1.0 + low * low * over_2)
        var_1 = over_1 + (p1 * p1 * qq - 2.0 * p1 * q1 * pq + q1 * q1 * pp) * scale
        var_2 = over_2 + (p2 * p2 * qq - 2.0 * p2 * q2 * pq + q2 * q2 * pp) * scale
        rss = w[RSS * LANES + i]
        phi = w[NEAR * LANES + i] / rss
        phi = phi if rss > exact * w[TOTAL * LANES + i] else 0.0
        phi += (4.0 + 8.0 * (phi if phi > 0.0 else 0.0)) / n
        phi = phi if phi > 0.0 else 0.0
        phi = phi if phi < MOST_PHI else MOST_PHI
        variance = rss / (n - 5.0) * (1.0 + phi) / (1.0 - phi)
        fine = (rest > SINGULAR * gg) & (pp > SINGULAR * whole_p)
        fine &= determinant > SINGULAR * pp * whole_q
        variance = variance if fine else math.inf
        w[PHI * LANES + i] = phi
        w[SE_P * LANES + i] = math.sqrt(variance * (qq * scale if fine else 1.0))
        w[SE_Q * LANES + i] = math.sqrt(variance * (pp * scale if fine else 1.0))
        w[SE_1 * LANES + i] = math.sqrt(variance * (var_1 if fine else 1.0))
        w[SE_2 * LANES + i] = math.sqrt(variance * (var_2 if fine else 1.0))


@borrowing
def settle(y, n, w):
    """Go from where ``P`` and ``Q`` are to the optimum; ``STATE`` is 1 where it was reached."""
    for i in range(LANES):
        w[STATE * LANES + i] = 0.0
    for _ in range(MOST):
        add_products(y, n, w)
        add_residuals(y, n, w)
        newton(w)
        going = 0.0
        for i in range(LANES):
            goes = w[STATE * LANES + i] == 0.0
            moved = w[_MOVED * LANES + i]
            last = goes & (moved <= DONE)
            lost = goes & (not moved < 0.1)
            goes &= not (last | lost)
            p = w[P * LANES + i] + (w[_STEP_P * LANES + i] if goes else 0.0)
            q = w[Q * LANES + i] + (w[_STEP_Q * LANES + i] if goes else 0.0)
            p_low, p_high = w[P_LOW * LANES + i], w[P_HIGH * LANES + i]
            q_low, q_high = w[Q_LOW * LANES + i], w[Q_HIGH * LANES + i]
            p = p if p > p_low else p_low
            p = p if p < p_high else p_high
            q = q if q > q_low else q_low
            q = q if q < q_high else q_high
            w[P * LANES + i] = p
            w[Q * LANES + i] = q
            state = 1.0 if last else w[STATE * LANES + i]
            w[STATE * LANES + i] = 2.0 if lost else state
        for i in range(LANES):
            going += 1.0 if w[STATE * LANES + i] == 0.0 else 0.0
        if going == 0.0:
            break


@borrowing
def step_on(n, w):
    """Take the last step: the unknowns, and, in first order, amplitudes and offset."""
    for i in range(LANES):
        step_p, step_q = w[_STEP_P * LANES + i], w[_STEP_Q * LANES + i]
        a, b = w[A_1 * LANES + i], w[A_2 * LANES + i]
        mean_f, mean_g = w[_SF * LANES + i] / n + 1.0, w[_SG * LANES + i] / n + 1.0
        mean_u, mean_v = w[_SU * LANES + i] / n, w[_SV * LANES + i] / n
        new_a = a + w[_A_BY_P * LANES + i] * step_p + w[_A_BY_Q * LANES + i] * step_q
        new_b = b + w[_B_BY_P * LANES + i] * step_p + w[_B_BY_Q * LANES + i] * step_q
        w[A_1 * LANES + i] = new_a
        w[A_2 * LANES + i] = new_b
        # A centred function begins with minus its mean, where it was 0.
        offset = -(new_a * mean_f + new_b * mean_g)
        w[OFFSET * LANES + i] = offset - a * mean_u * step_p - b * mean_v * step_q
        w[P * LANES + i] += step_p
        w[Q * LANES + i] += step_q
