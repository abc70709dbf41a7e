"""A cache that finds results by the bytes of their input, and measures whether it pays.

It serves callers who meet the same series again.  A run over experiments does not use it: hashing a
block of steps takes from 1/60 (time constants) to 1/4 (wavelets) of the time to compute it, so 2 to
25 % of the blocks would have to recur, and none do.  Earlier results are recognised by their file
and the fingerprint of their feature, without reading the samples.  ``benchmarks/wavelets.py``
measures this.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

T = TypeVar("T")

#: Number of lookups after which the cache decides whether it pays.
SAMPLE = 256
#: A cache that does not pay rests for this many samples before it tries again.
REST = 16
#: A result that costs this many times as much as its lookup and storage is always kept: without any
#: hit, this costs a tenth, and one hit in ten pays for it.
DEAR = 10.0


def content_key(context: Hashable, array: NDArray[Any]) -> Hashable:
    """Return a key that is equal only for the same bytes, type, shape and context.

    The bytes are hashed to 128 bits: among a billion arrays the chance that any two share a key is
    1e-21.  -0.0 is not 0.0, and a reversed series is another one.

    Parameters
    ----------
    context
        Everything else that the result depends on.
    array
        Any array; one that is not contiguous is copied.
    """
    data = np.ascontiguousarray(array)
    return (
        context,
        data.dtype.str,
        data.shape,
        xxhash.xxh3_128_digest(data.reshape(-1).view("u1").data),
    )


@dataclass(frozen=True)
class CacheStats:
    """Counts since the cache was made.

    Attributes
    ----------
    hits, misses, skipped
        Lookups that found a result, that found none, and requests answered without a lookup
        because the cache does not pay.
    entries, weight, bytes
        Number of results kept, the sum of their weights, and the sum of their known sizes.
    evictions
        Number of results that had to make room.
    seconds_saved
        Time saved by hits, less the time spent on hashing, lookup and storage.
    on
        Whether results are looked up at present.
    """

    hits: int
    misses: int
    skipped: int
    entries: int
    weight: int
    bytes: int
    evictions: int
    seconds_saved: float
    on: bool

    @property
    def hit_rate(self) -> float:
        """Share of the lookups that found a result; 0 before the first one."""
        return self.hits / max(self.hits + self.misses, 1)


@dataclass
class _Entry(Generic[T]):
    value: T
    weight: int
    bytes: int
    seconds: float


class ContentCache(Generic[T]):
    """A cache of results by the content of their input; the least recently used make room.

    The cache measures the cost of a lookup and the gain of a hit.  With hit rate h, computing time
    c, lookup L and storage S, it pays if ``h c > L + (1 - h) S``.  This is checked after every 256
    lookups; if it fails, the cache is switched off, and tried again 16 times as many requests
    later.  Results that cost ten times as much as L + S are always kept.

    Several threads may use it; if two miss the same result at the same time, both compute it.  A
    copy, also one in another process, starts empty.

    Parameters
    ----------
    capacity
        Largest sum of the weights of the results kept; 0 keeps none.
    clock
        Returns the time in s.

    Raises
    ------
    ValueError
        The capacity is negative.
    """

    def __init__(self, capacity: int, clock: Callable[[], float] = time.perf_counter) -> None:
        if capacity < 0:
            raise ValueError(f"capacity={capacity}: must not be negative; 0 switches the cache off")
        self.capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()
        self._hits = self._misses = self._skipped = self._evictions = 0
        self._weight = self._bytes = 0
        self._saved = 0.0
        self._rest = 0
        self._new_sample()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.capacity, self._clock)

    def _new_sample(self) -> None:
        self._looked = 0
        self._gained = self._spent = self._computing = 0.0

    def fetch(
        self,
        context: Hashable,
        arrays: Sequence[NDArray[Any]],
        compute: Callable[[list[int]], Sequence[T]],
        *,
        weight: int = 1,
        size: Callable[[T], int] = lambda value: int(getattr(value, "nbytes", len(str(value)))),
    ) -> list[T]:
        """Return one result per array, computing those that are not kept.

        Parameters
        ----------
        context
            Everything else that a result depends on.
        arrays
            The inputs of the results.
        compute
            Takes the indices of the arrays without a result and returns their results.
        weight
            Weight of one result.
        size
            Returns the bytes of a result.

        Returns
        -------
        The results in the order of ``arrays``.  They are the kept objects: do not change them.
        """
        n = len(arrays)
        if self.capacity < weight or self._skip(n):
            return list(compute(list(range(n)))) if n else []
        start = self._clock()
        keys = [content_key(context, array) for array in arrays]
        found: dict[int, T] = {}
        missing: list[int] = []
        gained = 0.0
        with self._lock:
            for i, key in enumerate(keys):
                entry = self._entries.get(key)
                if entry is None:
                    missing.append(i)
                else:
                    self._entries.move_to_end(key)
                    found[i] = entry.value
                    gained += entry.seconds
        looked_up = self._clock()
        computed = list(compute(missing)) if missing else []
        done = self._clock()
        seconds = (done - looked_up) / max(len(missing), 1)
        sizes = [size(value) for value in computed]
        with self._lock:
            for i, value, n_bytes in zip(missing, computed, sizes, strict=True):
                found[i] = value
                self._store(keys[i], _Entry(value, weight, n_bytes, seconds))
            spent = looked_up - start + (self._clock() - done if missing else 0.0)
            self._account(n, len(missing), gained, spent, done - looked_up)
        return [found[i] for i in range(n)]

    def _skip(self, n: int) -> bool:
        with self._lock:
            if self._rest <= 0:
                return False
            self._rest -= n
            self._skipped += n
            return True

    def _store(self, key: Hashable, entry: _Entry[T]) -> None:
        old = self._entries.pop(key, None)
        if old is not None:
            self._weight -= old.weight
            self._bytes -= old.bytes
        self._entries[key] = entry
        self._weight += entry.weight
        self._bytes += entry.bytes
        while self._weight > self.capacity:
            _, oldest = self._entries.popitem(last=False)
            self._weight -= oldest.weight
            self._bytes -= oldest.bytes
            self._evictions += 1

    def _account(
        self, looked: int, missed: int, gained: float, spent: float, computing: float
    ) -> None:
        self._hits += looked - missed
        self._misses += missed
        self._saved += gained - spent
        self._looked += looked
        self._gained += gained
        self._spent += spent
        self._computing += computing
        if self._looked < SAMPLE:
            return
        results = self._gained + self._computing
        if self._gained <= self._spent and results < DEAR * self._spent:
            self._rest = REST * self._looked
        self._new_sample()

    def stats(self) -> CacheStats:
        """Return the counts so far."""
        with self._lock:
            return CacheStats(
                self._hits,
                self._misses,
                self._skipped,
                len(self._entries),
                self._weight,
                self._bytes,
                self._evictions,
                self._saved,
                self.capacity > 0 and self._rest <= 0,
            )

    def clear(self) -> None:
        """Forget all results; the counts stay."""
        with self._lock:
            self._entries.clear()
            self._weight = self._bytes = 0
