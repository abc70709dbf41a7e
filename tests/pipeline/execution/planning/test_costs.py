"""What is remembered of costs, and what is learnt while they are unknown."""

from __future__ import annotations

import numpy as np
import pytest

from oectflow.pipeline.execution.driving.cost_file import load_costs, save_costs
from oectflow.pipeline.execution.events import BatchDone
from oectflow.pipeline.execution.planning.costs import CostBook, Costs

PRINTS = {"tau": "abc", "peak": "def"}


def stored_again(book, folder, prints=PRINTS):
    save_costs(book, folder)
    return load_costs(folder, prints)


def test_cost_book__is_remembered_by_definition(tmp_path):
    book = load_costs(tmp_path, PRINTS)
    assert book.get("tau") is None
    book.learn("tau", 1e-7)
    assert stored_again(book, tmp_path).get("tau") == 1e-7
    assert load_costs(tmp_path, PRINTS | {"tau": "changed"}).get("tau") is None
    # Another name for the same definition has the same cost.
    assert load_costs(tmp_path, {"my_tau": "abc"}).get("my_tau") == 1e-7


def test_cost_book__belongs_to_a_machine():
    book = CostBook(PRINTS, "one")
    book.learn("tau", 1e-7)
    assert CostBook(PRINTS, "one", book.content).get("tau") == 1e-7
    assert CostBook(PRINTS, "another", book.content).get("tau") is None


def test_cost_book__a_running_mean():
    book = CostBook(PRINTS)
    book.learn("tau", 1.0)
    book.learn("tau", 2.0)
    assert book.get("tau") == pytest.approx(0.7 * 1.0 + 0.3 * 2.0, rel=1e-15)
    for nonsense in (0.0, -1.0, float("nan"), float("inf")):
        book.learn("tau", nonsense)
    assert book.get("tau") == pytest.approx(1.3, rel=1e-15)


def test_cost_book__the_nearest_length_stands_for_one_that_was_never_timed(tmp_path):
    book = load_costs(tmp_path, PRINTS)
    book.learn("tau", 1e-7, 1000)
    book.learn("tau", 4e-7, 16_000)
    assert book.get("tau", 600) == 1e-7  # 512 … 1023 samples are one class
    assert book.get("tau", 100) == 1e-7
    assert book.get("tau", 1e6) == 4e-7
    assert stored_again(book, tmp_path).get("tau", 20_000) == 4e-7


def test_cost_book__what_ended_a_process_is_remembered(tmp_path):
    book = load_costs(tmp_path, PRINTS)
    book.mark_crashed(["tau"])
    again = stored_again(book, tmp_path)
    assert again.is_crashed("tau")
    assert not again.is_crashed("peak")
    assert not load_costs(tmp_path, PRINTS | {"tau": "mended"}).is_crashed("tau")


def test_cost_book__code_that_has_computed_something_is_trusted(tmp_path):
    book = load_costs(tmp_path, PRINTS)
    assert not book.is_trusted("code")
    book.trust(["code"])
    # With whatever parameters: its features may have other fingerprints.
    assert stored_again(book, tmp_path, {}).is_trusted("code")


@pytest.mark.parametrize(
    "content",
    ["[]", '{"format": 3, "costs": {"a": 1}}', "", "{", "[1]", '{"a": "b"}', "\x00", "[" * 10**5,
     '{"format": 2, "costs": {}, "deadly": []}', f'{{"format": {"9" * 5000}}}'],
)  # fmt: skip
def test_cost_book__a_damaged_one_is_begun_anew(tmp_path, content):
    (tmp_path / ".oectflow-costs.json").write_text(content)
    assert load_costs(tmp_path, PRINTS).get("tau") is None


def test_cost_book__is_written_only_when_something_has_changed(tmp_path):
    book = load_costs(tmp_path, PRINTS)
    save_costs(book, tmp_path)
    assert not list(tmp_path.iterdir())
    book.learn("tau", 1.0)
    again = stored_again(book, tmp_path)
    again.learn("tau", 1.05)
    assert not again.changed
    again.learn("tau", 2.0)
    assert again.changed


def done(seconds, n_steps=1, reading=0.0):
    return BatchDone(0, "transient", 0, n_steps, {"tau": seconds}, reading)


def test_timed__the_first_call_of_a_process_counts_until_there_is_another():
    costs = Costs(CostBook({}))
    assert costs.of("tau") is None
    costs.timed(done(5.0), 1000, fresh=True)
    assert costs.of("tau") == 5e-3
    costs.timed(done(4.0), 1000, fresh=True)
    assert costs.of("tau") == 4e-3
    costs.timed(done(1e-3), 1000, fresh=False)
    costs.timed(done(5.0), 1000, fresh=True)
    assert costs.of("tau") == 1e-6
    costs.timed(done(6e-3, 2), 2000, fresh=False)
    assert costs.of("tau") == pytest.approx(7e-3 / 3000, rel=1e-12)
    # What earlier runs have learnt counts more.
    costs.book.learn("tau", 1e-4)
    assert costs.of("tau") == pytest.approx(1e-4, rel=1e-12)


def test_timed__reading_has_a_part_that_is_the_same_for_any_number_of_steps():
    opening, per_step, samples = 1e-3, 1e-4, 10_000
    costs = Costs(CostBook({}))
    for n in (1, 2, 4, 8):
        # One that was disturbed does not count.
        disturbed = 10 if n == 4 else 1
        reading = disturbed * (opening + n * per_step)
        costs.timed(done(1e-3, n, reading), n * samples, fresh=False)
    assert costs.of("read transient") == pytest.approx(per_step / samples, rel=1e-12)
    assert costs.opening("transient") == pytest.approx(opening, rel=1e-12)
    assert costs.book.get("open transient") is not None


def test_timed__nothing_is_negative():
    rng = np.random.default_rng(3)
    costs = Costs(CostBook({}))
    for n in rng.integers(1, 9, 50):
        costs.timed(done(1e-3, n, float(rng.exponential(1e-3))), 100 * n, fresh=False)
        assert costs.of("read transient") >= 0
        assert costs.opening("transient") >= 0
