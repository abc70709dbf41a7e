from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oectflow.measurement import Batch
from oectflow.pipeline.inputs.step_digests import NUMBERS, extended, proved, step_digests

steps = st.lists(st.sampled_from([b"a", b"b"]), max_size=70)


@given(steps, st.lists(st.integers(1, 9), max_size=40), st.integers(0, 3))
def test_a_trail_is_the_same_however_it_has_grown(digests, pieces, overlap):
    at_once = extended({}, digests, 0)
    trail, n = {}, 0
    for piece in [*pieces, len(digests)]:
        start = max(0, n - overlap)
        stop = min(len(digests), n + piece)
        trail = extended(trail, digests[start:stop], start)
        n = max(trail, default=0)
    assert n == len(digests)
    # Which marks are left may differ, what they say may not.
    whole = {i: mark for i in range(len(digests) + 1) for mark in [_mark(digests[:i])]}
    for one in (at_once, trail):
        assert all(whole[i] == mark for i, mark in one.items())
        assert {n, n - 1} - {0, -1} <= one.keys()
        assert len(one) <= 2 + math.log2(n + 1)


def _mark(digests):
    trail = extended({}, digests, 0)
    return trail.get(len(digests))


@given(steps, steps)
def test_what_is_proved_is_the_same_from_the_first_step_on(was, now):
    trail = extended({}, was, 0)
    kept = proved(trail, now)
    same = next(
        (i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b),
        min(len(was), len(now)),
    )
    assert kept == {n: mark for n, mark in trail.items() if n <= same}


def test_a_trail_ends_at_a_step_that_could_not_be_read():
    assert max(extended({}, [b"a", b"b", b"", b"c"], 0)) == 2


def batch(**changes):
    Vg, Id = np.arange(5.0), np.arange(5.0) * 1e-6
    fields = {
        "arrays": {"Vg": Vg, "Id": Id},
        "offsets": np.array([0, 2, 5]),
        "values": {"Vd": np.array([0.1, np.nan])},
    }
    return Batch(**fields | changes)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"arrays": {"Vg": np.arange(5.0), "Id": np.array([0, 1, 2, 3, 5]) * 1e-6}}, "Id"),
        ({"values": {"Vd": np.array([0.1, 0.2])}}, NUMBERS),
        ({"values": {"sweep_rate": np.array([0.1, np.nan])}}, NUMBERS),
        ({"timing_source": ("", "step")}, NUMBERS),
    ],
)
def test_whatever_an_extractor_gets_is_in_a_digest(change, name):
    was, now = step_digests("transfer", batch()), step_digests("transfer", batch(**change))
    assert was[name][1] != now[name][1]
    same = {(key, i) for key in was for i in range(2) if was[key][i] == now[key][i]}
    assert {("Vg", 0), ("Vg", 1), ("Id", 0)} <= same


def test_a_step_has_one_digest_wherever_it_stands_and_whatever_its_array_is_called():
    whole = step_digests("transfer", batch())
    alone = step_digests(
        "transfer",
        Batch(
            {"Vg": np.arange(2.0, 5.0), "Id": np.arange(2.0, 5.0) * 1e-6},
            np.array([0, 3]),
            {"Vd": np.array([np.nan])},
            1,
        ),
    )
    assert {name: some[1] for name, some in whole.items()} == {
        name: some[0] for name, some in alone.items()
    }
    current = np.arange(3.0)
    named = [
        step_digests("transient", Batch({name: current}, np.array([0, 3])))
        for name in ("drain_current", "Id")
    ]
    assert named[0] == named[1]
