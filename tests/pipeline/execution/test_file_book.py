"""A run with nothing to do opens no file, and says what it would say if it had opened them."""

import dataclasses
import json
import math
import os
import shutil

import h5py
import pytest
import xxhash

import oectflow as of
from oectflow import result_metadata
from oectflow.extractors.base import BaseExtractor, register
from oectflow.pipeline.execution.driving import file_book
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs import states

FEATURES = {
    "peak": {"extractor": "transient.peak_current", "input": "transient"},
    "gm": {"extractor": "transfer.gm_max", "input": "transfer"},
    "ratio": {"func": "peak / gm", "input": ["peak", "gm"]},
}
BOOK = ".oectflow-unchanged.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Raw files and their results, never changed."""
    top = tmp_path_factory.mktemp("made")
    (top / "raw").mkdir()
    for i in range(3):
        path = top / "raw" / f"{i}.h5"
        simulate_device(
            i, n_transfer=2, n_transient=2, n_points=21, n_cycles=3, test_id=f"test_{i}"
        ).write(path)
        os.utime(path, ns=(10**18, 10**18))
    # Its table of steps contradicts its samples, which is a warning.
    with h5py.File(top / "raw" / "2.h5", "r+") as file:
        table = file["transient/step_info_table"]
        rows = table[:]
        rows["end_data_index"][0] -= 1
        table[:] = rows
    os.utime(top / "raw" / "2.h5", ns=(10**18, 10**18))
    return top


@pytest.fixture
def lab(made, tmp_path, monkeypatch):
    monkeypatch.setattr(file_book, "_RECENT_NS", 0)
    shutil.copytree(made / "raw", tmp_path / "raw")
    run(tmp_path)
    return tmp_path


@pytest.fixture
def opened(monkeypatch):
    """Names of the raw files and results that a run opens to see what is to be done."""
    names = []
    experiment, earlier = states.Experiment, states.read_earlier
    monkeypatch.setattr(
        states,
        "Experiment",
        lambda path, **how: names.append(path.name) or experiment(path, **how),
    )
    monkeypatch.setattr(
        states, "read_earlier", lambda path, now: names.append(path.name) or earlier(path, now)
    )
    return names


def run(lab, features=FEATURES, **options):
    return of.extract(lab / "raw", features, lab / "out", progress=False, **options)


def said(report):
    """All that a report says of its experiments but for times."""
    return [
        {
            name: value
            for name, value in dataclasses.asdict(record).items()
            if not (isinstance(value, float) and math.isnan(value))
        }
        for record in report.experiments
    ]


def without_book(lab, features=FEATURES, **options):
    (lab / "out" / BOOK).unlink()
    return run(lab, features, **options)


def test_nothing_to_do(lab, opened):
    again = run(lab)
    assert again.counts == {"unchanged": 3}
    assert opened == []
    assert "step" in " ".join(warnings_of(again))
    slow = without_book(lab)
    assert len(opened) == 6
    assert said(again) == said(slow)
    # What was found the slow way is remembered, too.
    opened.clear()
    assert said(run(lab)) == said(slow)
    assert opened == []


def warnings_of(report):
    return [line for record in report.experiments for line in record.warnings]


def changed(path):
    with h5py.File(path, "r+") as file:
        file["transient/measurement_data"][2] *= 2


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def zeroed_in_place(path):
    """Size and modification time stay, as after a fault of a disk's controller."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def deleted(path):
    path.unlink()


@pytest.mark.parametrize("damage", [cut, zeroed_in_place, deleted])
def test_one_result_is_not_what_it_was(lab, opened, damage):
    damage(lab / "out" / "test_1.parquet")
    report = run(lab)
    assert [r.outcome == "unchanged" for r in report.experiments] == [True, False, True]
    assert opened == ["1.h5", "test_1.parquet"]
    assert run(lab).counts == {"unchanged": 3}


def test_one_raw_file_is_not_what_it_was(lab, opened):
    changed(lab / "raw" / "1.h5")
    report = run(lab)
    assert [r.outcome == "unchanged" for r in report.experiments] == [True, False, True]
    assert opened == ["1.h5", "test_1.parquet"]
    opened.clear()
    assert run(lab).counts == {"unchanged": 3}
    assert opened == []


def test_a_raw_file_takes_the_place_and_time_of_another(lab, opened):
    path = lab / "raw" / "1.h5"
    before = path.stat()
    with h5py.File(path, "r+") as file:
        file.attrs.modify("test_id", "test_9")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert run(lab).experiments[1].experiment_id == "test_9"
    assert opened == ["1.h5", "test_9.parquet"]


def test_a_new_file_and_a_copy(lab, opened):
    shutil.copy(lab / "raw" / "1.h5", lab / "raw" / "copy.h5")
    # Before the file that the book knows, so that this one is the copy.
    shutil.copy(lab / "raw" / "2.h5", lab / "raw" / "0a.h5")
    with_book = run(lab)
    assert said(with_book) == said(without_book(lab))
    assert [r.outcome for r in with_book.experiments].count("failed") == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        cut,
        lambda path: path.write_bytes(path.read_bytes().replace(b"test_1", b"test_7")),
    ],
    ids=["lost", "empty", "cut", "another word"],
)
def test_without_the_book_the_answer_is_the_same(lab, opened, damage):
    fast = said(run(lab))
    damage(lab / "out" / BOOK)
    assert said(run(lab)) == fast
    assert len(opened) == 6
    opened.clear()
    assert said(run(lab)) == fast
    assert opened == []


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"format": 1}', "[" * 100_000, None],
    ids=["list", "nothing", "no entries", "brackets", "entries of nothing"],
)
def test_a_book_of_a_stranger(lab, content):
    path = lab / "out" / BOOK
    if content is None:
        book = json.loads(path.read_bytes().partition(b"\n")[2])
        book["files"] = {key: [1, None] for key in book["files"]}
        content = json.dumps(book)
    text = content.encode()
    path.write_bytes(xxhash.xxh3_128_hexdigest(text).encode() + b"\n" + text)
    assert run(lab).counts == {"unchanged": 3}


def test_everything_is_looked_at_where_that_is_asked_for(lab, opened):
    zeroed_in_place(lab / "out" / "test_1.parquet")
    assert run(lab, verify="content").counts["unchanged"] == 2
    assert len(opened) == 6
    assert run(lab, force=True).counts.get("unchanged", 0) == 0


@pytest.mark.parametrize(
    ("features", "options"),
    [
        (FEATURES | {"ratio": {"func": "peak * gm", "input": ["peak", "gm"]}}, {}),
        (FEATURES | {"n": {"extractor": "transient.cycles", "input": "transient"}}, {}),
        (FEATURES | {"gm": FEATURES["gm"] | {"unit": "mS"}}, {}),
        (FEATURES, {"expand_multidim": True}),
        (FEATURES, {"samples": {"W": 1e-4}}),
    ],
    ids=["definition", "one more", "unit", "layout", "samples"],
)
def test_another_question(lab, opened, features, options):
    assert run(lab, features, **options).counts.get("unchanged", 0) == 0
    opened.clear()
    fast = run(lab, features, **options)
    assert opened == []
    assert said(fast) == said(without_book(lab, features, **options))
    # The one of before is looked at in full.
    assert said(run(lab)) != []
    assert len(opened) >= 6


def test_what_raised_is_tried_again(lab, opened):
    @register("transient.always_raises")
    class Raises(BaseExtractor):
        source = "transient"
        unit = "A"

        def extract_single_step(self, step_data, params):
            raise ZeroDivisionError("no value")

    features = FEATURES | {"odd": {"extractor": "transient.always_raises", "input": "transient"}}
    assert run(lab, features).counts == {"failed": 3}
    opened.clear()
    assert run(lab, features).counts == {"failed": 3}
    assert len(opened) == 6


def test_a_raw_file_of_a_moment_ago_is_looked_at_again(lab, opened, monkeypatch):
    monkeypatch.setattr(file_book, "_RECENT_NS", 10**18)
    changed(lab / "raw" / "1.h5")
    run(lab)
    opened.clear()
    assert run(lab).counts == {"unchanged": 3}
    assert opened == ["1.h5", "test_1.parquet"]


def test_the_book_is_private_and_a_folder_without_room_for_it_is_no_failure(lab):
    assert (lab / "out" / BOOK).stat().st_mode & 0o777 == 0o600
    (lab / "out" / BOOK).unlink()
    (lab / "out" / BOOK).mkdir()
    assert run(lab).counts == {"unchanged": 3}


def test_part_of_the_files_leaves_the_rest_in_the_book(lab, opened):
    changed(lab / "raw" / "1.h5")
    of.extract(lab / "raw" / "1.h5", FEATURES, lab / "out", progress=False)
    opened.clear()
    assert run(lab).counts == {"unchanged": 3}
    assert opened == []


def test_what_other_files_belong_to_is_looked_at_in_every_run(lab, opened):
    for _ in range(2):
        opened.clear()
        assert run(lab, allow_external=True).counts == {"unchanged": 3}
        assert len(opened) == 6


def test_results_without_their_definitions_are_looked_at(lab, opened, monkeypatch):
    for definitions in list((lab / "out").glob("_definitions-*.json")):
        definitions.unlink()
    # As in a process that has not read them.
    monkeypatch.setattr(result_metadata, "_known", {})
    assert run(lab).counts.get("unchanged", 0) == 0
    assert len(opened) >= 6
    opened.clear()
    assert run(lab).counts == {"unchanged": 3}
    assert opened == []
