"""The wait for kernels: who compiles what, and what is said of it."""

from __future__ import annotations

import numba
from numba.core.event import install_listener

from oectflow.extractors import warm
from oectflow.extractors.base import extractor_names, get_extractor
from oectflow.pipeline.execution.worker import warm as in_words


def test_shares__hold_every_built_in_extractor_once():
    shares = warm._shares(extractor_names())
    assert len(shares) == 3
    named = [name for share in shares for name in share]
    assert len(named) == len(set(named))
    built_in = {
        name
        for name in extractor_names()
        if type(get_extractor(name)).__module__.startswith("oectflow.extractors.")
    }
    assert set(named) == built_in


def test_shares__of_what_is_asked_for():
    assert warm._shares(["transfer.gm_max", "transient.tau_on_off"]) == [
        ["transient.tau_on_off"],
        ["transfer.gm_max"],
    ]


def test_compiling__others_compile_as_soon_as_something_is_compiled_here():
    counts: list[int] = []
    with warm._Compiling([["transfer.absI_max"]], counts.append) as compiling:
        assert not compiling._children
        with install_listener("numba:compile", compiling):
            assert numba.njit(lambda x: x + 1)(1) == 2
            assert numba.njit(lambda x: x - 1)(1) == 0
        compiling.wait()
        (child,) = compiling._children
        assert child.returncode == 0
    assert counts[0] == 0
    assert counts[-1] >= 2
    assert counts == sorted(counts)


def test_warm_up__from_the_cache_nothing_is_said(capfd):
    warm.warm_up(["transfer.absI_max"])
    told: list[int] = []
    warm.warm_up(["transfer.absI_max"], told.append)
    assert told == []
    in_words.warm_up_here(["transfer.absI_max"])
    assert capfd.readouterr().err == ""


def test_shown__in_a_pipe_lines_with_what_stands_beside(capfd, monkeypatch):
    monkeypatch.setattr(in_words, "_BETWEEN_LINES", -1.0)
    with in_words._shown("dashboard: http://here") as told:
        told(0)
        told(7)
    first, beside, *others, last = capfd.readouterr().err.splitlines()
    assert first.startswith("compiling kernels, once")
    # A line of its own: together they are wider than a terminal.
    assert beside == "dashboard: http://here"
    assert "7 functions" in others[-1]
    assert last.startswith("compiled in ")
