"""Coordinates in which all exponentials of a number of even samples are short vectors.

Exponentials of n samples with any time constant lie, within 1e-12 of themselves, in a space of some
30 dimensions, or 50 for 1,000 samples.  Their coordinates are smooth along ``ln tau``: polynomials
in cells of :data:`.coordinates.CELL` give them, and their derivatives, to as many digits.  What is
left of Chebyshev's series is ``(CELL / 6)^7``, 1e-14.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors.kernels import coordinates, downhill, mixtures, pair_search
from oectflow.extractors.kernels.tau_grid import TAU_MAX, TAU_MIN

#: Samples of the longest window that has tables: they are made in less time than some fits take.
LONGEST = 2048
#: Exponentials that the space is made from, and what is left of one that belongs to it.
_N_MADE_FROM, _LEAST = 128, 1e-12
#: The same for stretched ones, whose coordinates only tell where ways begin.
_LEAST_OF_STARTS = 1e-6
#: Coordinates are padded to a multiple, for vector instructions.
_MULTIPLE = 4


class Tables(NamedTuple):
    """What :func:`.pairs.fit_pairs` takes, of one length."""

    nodes: NDArray[np.float64]
    bounds: NDArray[np.float64]
    grid: NDArray[np.float64]
    gram: NDArray[np.float64]
    space: tuple[NDArray[np.float64], NDArray[np.float64], float]
    powers: NDArray[np.float64]


class StretchedTables(NamedTuple):
    """What :func:`.stretched_fits.fit_stretched` takes, of one length."""

    p: NDArray[np.float64]
    q: NDArray[np.float64]
    bounds: NDArray[np.float64]
    grid: NDArray[np.float64]
    basis: NDArray[np.float64]
    by_node: NDArray[np.float64]


def _exponentials(n: int, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``exp(-k / tau) - 1`` less its mean, a row for each ``theta = ln tau``."""
    found = np.expm1(-np.arange(n) * np.exp(-theta)[:, None])
    return np.asarray(found - found.mean(axis=1, keepdims=True))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _basis_of(rows: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Return orthonormal columns of which all rows consist but for ``least``, and columns of 0.

    The method is that of Gram and Schmidt, with the farthest row next.  LAPACK's decomposition
    starts threads even for so little, which takes 0.2 s on a busy machine.
    """
    left = rows.copy()
    found: list[NDArray[np.float64]] = []
    for _ in range(min(rows.shape)):
        sizes = np.einsum("ij,ij->i", left, left)
        farthest = int(np.argmax(sizes))
        if sizes[farthest] <= least**2:
            break
        one = left[farthest] / math.sqrt(sizes[farthest])
        for other in found:
            one -= other * np.sum(other * one)
        one /= math.sqrt(np.sum(one * one))
        found.append(one)
        left -= np.outer(np.einsum("ij,j->i", left, one), one)
    missing = -len(found) % _MULTIPLE
    return np.pad(np.array(found).T, ((0, 0), (0, missing)))


def _polynomials(
    n: int, low: float, high: float, width: float, n_powers: int, basis: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return polynomials of ``ln tau``, through the Chebyshev points of every cell.

    Returns
    -------
    Coefficients by powers, of every coordinate.  Shape (cells, n_powers, r).
    """
    x = np.cos(np.pi * (np.arange(n_powers) + 0.5) / n_powers)
    n_cells = math.ceil((high - low) / width)
    middles = low + width * (np.arange(n_cells) + 0.5)
    values = _exponentials(n, (middles[:, None] + 0.5 * width * x).ravel()) @ basis
    powers = np.linalg.inv(np.vander(x, increasing=True))
    values = values.reshape(n_cells, n_powers, basis.shape[1])
    return np.asarray(np.einsum("ij,kjr->kir", powers, values))


@lru_cache(16)
def tables_of(n: int) -> Tables:
    """Return the tables of windows of ``n`` even samples."""
    low, high = math.log(TAU_MIN), math.log(TAU_MAX * n)
    made_from = _unit(_exponentials(n, np.linspace(low, high, _N_MADE_FROM)))
    basis = _basis_of(made_from, _LEAST)
    cells = _polynomials(n, low, high, coordinates.CELL, coordinates.N_POWERS, basis)
    powers = _polynomials(n, low, high, pair_search.CELL, pair_search.POWERS, basis)
    nodes, _, bounds = mixtures.nodes_of(np.arange(float(n)), downhill.DOUBLE)
    grid = _unit(_exponentials(n, nodes)) @ basis
    return Tables(
        nodes,
        bounds,
        grid,
        grid @ grid.T,
        (np.ascontiguousarray(basis), np.ascontiguousarray(cells), low),
        np.ascontiguousarray(powers.transpose(0, 2, 1)),
    )


@lru_cache(16)
def stretched_tables_of(n: int) -> StretchedTables:
    """Return the tables of windows of ``n`` even samples."""
    t = np.arange(float(n))
    p, q, bounds = mixtures.nodes_of(t, downhill.STRETCHED)
    grid = np.empty((p.size * q.size, n))
    mixtures.fill_grid(t, True, downhill.STRETCHED, p, q, grid)
    basis = np.ascontiguousarray(_basis_of(grid, _LEAST_OF_STARTS))
    return StretchedTables(p, q, bounds, grid, basis, np.ascontiguousarray((grid @ basis).T))
