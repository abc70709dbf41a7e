from __future__ import annotations

import pytest

from oectflow.pipeline.watching.planning import (
    LATELY,
    LOOK_AGAIN,
    MOST_LATELY,
    PAUSES,
    RETRIES,
    SILENCE,
    TOGETHER,
    TURN,
    Extract,
    Ingest,
    Look,
    WatchState,
)

SETTLE = 0.5


@pytest.fixture
def state():
    return WatchState(SETTLE)


def ended(word="1"):
    return Look(word, word)


def running(complete, everything):
    return Look(complete, everything, running=True)


def ingest(state, action, raws=(), now=0.0, failed=False):
    state.ingested(action, raws, failed=failed, now=now)


def test_what_changes_is_read_when_it_has_settled(state):
    state.seen("a", ended("1"), 0.0)
    assert state.next(0.49) is None
    state.seen("a", ended("2"), 0.4)
    assert state.next(0.89) is None
    action = state.next(0.9)
    assert action == Ingest("a")
    ingest(state, action, ["a.h5"], 0.9)
    action = state.next(0.9)
    assert action == Extract(("a.h5",))
    state.extracted(action, (), 1.0)
    assert state.next(1e6) is None
    # The same once more is nothing new.
    state.seen("a", ended("2"), 1e6)
    assert state.next(2e6) is None
    assert state.is_idle


def test_the_step_under_way_makes_nobody_wait_and_is_not_read(state):
    state.seen("a", running("1", "1"), 0.0)
    ingest(state, state.next(0.5), now=0.5)
    for i in range(100):
        # The file of the step under way grows without pause.
        state.seen("a", running("1", f"1+{i}"), 1 + 0.1 * i)
        assert state.next(1 + 0.1 * i) is None
    state.seen("a", running("2", "2+0"), 11.0)
    state.seen("a", running("2", "2+1"), 11.4)
    assert state.next(11.5) == Ingest("a")


def test_what_a_test_measured_when_it_was_left_is_read_once(state):
    state.seen("a", running("1", "1+9"), 0.0)
    ingest(state, state.next(0.5), now=0.5)
    assert state.next(SILENCE - 0.1) is None
    action = state.next(SILENCE)
    assert action == Ingest("a", under_way=True)
    ingest(state, action, now=SILENCE)
    assert state.next(1e6) is None
    # It goes on: nothing is complete yet, so nothing is read.
    state.seen("a", running("1", "1+10"), 1e6)
    assert state.next(1e6 + 1) is None


def test_a_test_without_a_step_is_waited_for(state):
    state.seen("a", running("", "1"), 0.0)
    assert state.next(10.0) is None
    state.seen("a", running("1", "2"), 10.0)
    assert state.next(10.5) == Ingest("a")


def test_what_runs_and_what_has_changed_lately_is_looked_at(state):
    state.seen("a", running("1", "1"), 0.0)
    state.seen("b", ended(), 0.0)
    assert state.to_look(LOOK_AGAIN - 0.1) == []
    assert state.to_look(LOOK_AGAIN) == ["a", "b"]
    state.seen("a", running("1", "1"), LOOK_AGAIN)
    assert state.to_look(LOOK_AGAIN) == ["b"]
    assert state.to_look(LATELY + 0.1) == ["a"]
    state.seen("a", None, 100.0)
    assert state.to_look(200.0) == []
    assert list(state.sources) == ["b"]


def test_of_ten_thousand_sources_few_are_looked_at_again(state):
    for i in range(10_000):
        state.seen(f"{i}", ended(), 0.0)
    assert len(state.to_look(LOOK_AGAIN)) == MOST_LATELY


def test_tests_that_run_come_before_a_thousand_that_have_ended(state):
    for i in range(1000):
        state.seen(f"old {i}", ended(), 0.0)
    state.seen("new", running("1", "1"), 0.0)
    assert state.next(1.0) == Ingest("new")


def test_a_test_that_takes_long_leaves_time_to_the_others(state):
    state.seen("long", running("1", "1"), 0.0)
    state.ingested(state.next(1.0), (), failed=False, now=11.0, seconds=10.0)
    state.seen("long", running("2", "2"), 12.0)
    state.seen("short", ended(), 12.0)
    action = state.next(13.0)
    assert action == Ingest("short")
    ingest(state, action, now=13.0)
    assert state.next(20.9) is None
    assert state.next(21.0) == Ingest("long")
    # Of one that has ended, no more will come.
    state.seen("long", ended("3"), 13.0)
    assert state.next(13.5) == Ingest("long")


def test_rows_of_a_test_that_runs_come_before_those_of_ten_thousand_raw_files(state):
    state.wanted((f"{i}.h5" for i in range(10_000)), 0.0)
    state.seen("new", running("1", "1"), 0.0)
    ingest(state, state.next(0.5), ["new.h5"], 0.5)
    action = state.next(2.0)
    assert action.raws[0] == "new.h5"
    assert len(action.raws) == TOGETHER


def test_rows_wait_for_no_more_than_a_turn(state):
    now, done = 100.0, []
    for i in range(1000):
        state.seen(f"{i}", ended(), 0.0)
    while (action := state.next(now)) is not None:
        if isinstance(action, Ingest):
            now += 0.1
            ingest(state, action, [f"{action.source}.h5"], now)
        else:
            assert len(action.raws) <= min(TOGETHER, TURN / 0.1 + 1)
            done += action.raws
            state.extracted(action, (), now)
    assert sorted(done) == sorted(f"{i}.h5" for i in range(1000))


def test_what_fails_is_tried_again_less_and_less_often_and_at_once_when_it_changes(state):
    state.seen("a", ended(), 0.0)
    now = 0.5
    for pause in (*RETRIES, RETRIES[-1]):
        ingest(state, state.next(now), now=now, failed=True)
        assert state.next(now + pause - 0.1) is None
        now += pause
        assert state.next(now) == Ingest("a")
    state.seen("a", ended("2"), now + 1)
    assert state.next(now + 1.5) == Ingest("a")
    ingest(state, Ingest("a"), now=now + 1.5)
    assert state.next(now + 1e6) is None


def test_a_raw_file_without_a_result_is_tried_again(state):
    state.wanted(["a.h5", "b.h5"], 0.0)
    action = state.next(0.0)
    state.extracted(action, {"b.h5"}, 0.0)
    assert state.next(RETRIES[0] - 0.1) is None
    assert state.is_idle
    assert state.next(RETRIES[0]) == Extract(("b.h5",))


def test_where_nothing_can_be_written_nothing_is_forgotten(state):
    state.wanted(["a.h5"], 0.0)
    state.seen("b", ended(), 0.0)
    now = 1.0
    for pause in (*PAUSES, PAUSES[-1]):
        while isinstance(action := state.next(now), Ingest):
            ingest(state, action, ["b.h5"], now)
        state.refused(now)
        assert state.is_paused
        assert state.next(now + pause - 0.1) is None
        now += pause
    done = []
    while (action := state.next(now)) is not None:
        if isinstance(action, Ingest):
            ingest(state, action, ["b.h5"], now)
        else:
            done += action.raws
            state.extracted(action, (), now)
    assert sorted(done) == ["a.h5", "b.h5"]
    assert not state.is_paused
    assert state.next(now + 1e6) is None
