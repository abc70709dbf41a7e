"""Results that were cut or changed on disk: named, never read as other values, and replaced."""

import copy
import json
import random
import shutil
import warnings

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

import oectflow as of
from oectflow import result_metadata
from oectflow.checksums import add_checksums, open_checked
from oectflow.errors import DamagedFile, OutputError
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.results import DamagedResultWarning
from oectflow.pipeline.outputs.sink import read_metadata, read_table
from oectflow.result_metadata import unpack

FEATURES = {
    "peak": {"extractor": "transient.peak_current", "input": "transient"},
    "gm": {"extractor": "transfer.gm_max", "input": "transfer"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three raw files and their results, never changed."""
    top = tmp_path_factory.mktemp("made")
    (top / "raw").mkdir()
    for i in range(3):
        device = simulate_device(
            i, n_transfer=2, n_transient=2, n_points=21, n_cycles=3, test_id=f"test_{i}"
        )
        device.write(top / "raw" / f"{i}.h5")
    of.extract(top / "raw", FEATURES, top / "out", progress=False)
    return top


@pytest.fixture
def lab(made, tmp_path):
    shutil.copytree(made, tmp_path / "lab")
    return tmp_path / "lab"


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path):
    path.write_bytes(b"")


def zeroed(path):
    path.write_bytes(bytes(path.stat().st_size))


def without_footer(path):
    data = bytearray(path.read_bytes())
    data[-200:] = bytes(200)
    path.write_bytes(data)


def flipped(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


DAMAGES = [cut, emptied, zeroed, without_footer]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_cannot_be_read_is_named_and_the_rest_is_there(lab, damage):
    out = lab / "out"
    damage(out / "test_1.parquet")
    with pytest.warns(DamagedResultWarning, match=r"1 of 3 files(.|\n)*test_1\.parquet.*--force"):
        results = of.open_results(out)
    assert results["experiment"].values.tolist() == ["test_0", "test_2"]
    assert "test_1.parquet" in results.attrs["unreadable"][0]
    with pytest.warns(DamagedResultWarning, match="test_1"):
        assert len(of.results_frame(out)) == 4
    with pytest.warns(DamagedResultWarning, match="test_1"):
        assert of.problems_frame(out).empty
    with pytest.raises(OutputError, match=r"test_1\.parquet: cannot be read as Parquet"):
        of.open_results(out / "test_1.parquet")
    with pytest.warns(DamagedResultWarning, match="test_1"):
        page = of.report(out, lab / "report.html", progress=False).read_text()
    assert "test_1.parquet: cannot be read as Parquet" in page


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("force", [False, True])
def test_extract_replaces_what_is_its_own(made, lab, damage, force):
    path = lab / "out" / "test_1.parquet"
    damage(path)
    report = of.extract(lab / "raw", FEATURES, lab / "out", force=force, progress=False)
    assert report.ok
    (line,) = [line for line in report.summary().splitlines() if path.name in line]
    assert line.startswith(f"damaged, and replaced: {path}: cannot be read as Parquet")
    assert read_metadata(path)["warnings"] == []
    assert report.experiments[1].outcome == "done"
    assert read_table(path).equals(read_table(made / "out" / path.name))
    again = of.extract(lab / "raw", FEATURES, lab / "out", progress=False)
    assert again.counts == {"unchanged": 3}


def test_what_would_be_kept_of_a_damaged_result_is_computed_anew(lab):
    path = lab / "out" / "test_1.parquet"
    truth = read_table(path)
    column = next(name for name in truth.column_names if name.startswith("peak"))
    chunk = next(
        found
        for i in range(truth.num_columns + 5)
        if (found := pq.ParquetFile(path).metadata.row_group(0).column(i)).path_in_schema == column
    )
    flipped(path, 8 * (chunk.data_page_offset + chunk.total_compressed_size - 2))
    more = FEATURES | {"cycles": {"extractor": "transient.cycles", "input": "transient"}}
    report = of.extract(lab / "raw", more, lab / "out", progress=False)
    assert report.ok
    assert f"{path}: cannot be read as Parquet" in report.plan.damaged[0]
    assert report.experiments[1].reused == ()
    assert (
        read_table(path).select(truth.column_names).drop("problems").equals(truth.drop("problems"))
    )


def values(path):
    """Everything that a user can get of a result: every column, and what the metadata say."""
    return read_table(path), read_metadata(path)


def test_no_flipped_bit_gives_other_values(made, tmp_path):
    path = tmp_path / "test_0.parquet"
    whole = (made / "out" / path.name).read_bytes()
    truth = values(made / "out" / path.name)
    rng = random.Random(5)
    n = 8 * len(whole)
    # The last 64 bytes bit by bit: how long the footer is stands there.
    bits = [rng.randrange(n) for _ in range(400)] + list(range(n - 512, n))
    refused = 0
    for bit in bits:
        path.write_bytes(whole)
        flipped(path, bit)
        try:
            got = values(path)
        except DamagedFile:
            refused += 1
        else:
            assert got[0].equals(truth[0]), bit
            assert got[1] == truth[1], bit
    # What is left are the digests' own mark, and how many there are.
    assert refused >= len(bits) - 96


def test_every_bit_of_the_mark_and_of_the_begin_of_a_page(made, tmp_path):
    path = tmp_path / "test_0.parquet"
    source = made / "out" / path.name
    whole = source.read_bytes()
    truth = values(source)
    column = pq.read_metadata(source).row_group(0).column(4)
    mark = whole.index(b"OEFLSUM2")
    places = [*range(column.data_page_offset, column.data_page_offset + 40), *range(8)]
    for place in [*places, *range(mark - 20, mark + 8)]:
        for bit in range(8):
            path.write_bytes(whole)
            flipped(path, 8 * place + bit)
            try:
                assert values(path) == truth, (place, bit)
            except DamagedFile:
                continue


def test_only_what_is_read_is_looked_at_and_damage_elsewhere_does_not_stop_it(lab):
    """In a file of many rows, where each column has a digest of its own."""
    path = lab / "out" / "test_1.parquet"
    device = simulate_device(
        1, n_transfer=2, n_transient=100, n_points=21, n_cycles=3, test_id="test_1"
    )
    device.write(lab / "raw" / "1.h5")
    of.extract(lab / "raw", FEATURES, lab / "out", progress=False)
    columns = {
        column.path_in_schema: column
        for i in range(pq.read_metadata(path).num_columns)
        for column in [pq.read_metadata(path).row_group(0).column(i)]
    }
    flipped(path, 8 * (columns["gm"].data_page_offset + columns["gm"].total_compressed_size - 2))
    results = of.open_results(lab / "out")
    results["peak"].load()
    with pytest.raises(OutputError, match=r"test_1\.parquet.*column 'gm'.*--force"):
        results["gm"].load()
    report = of.extract(lab / "raw", FEATURES, lab / "out", force=True, progress=False)
    assert report.ok
    of.open_results(lab / "out")["gm"].load()


def test_damage_anywhere_stops_a_small_file(lab):
    path = lab / "out" / "test_1.parquet"
    column = pq.read_metadata(path).row_group(0).column(4)
    flipped(path, 8 * (column.data_page_offset + column.total_compressed_size - 2))
    results = of.open_results(lab / "out")
    with pytest.raises(OutputError, match=r"test_1\.parquet.*--force"):
        results["peak"].load()
    assert of.extract(lab / "raw", FEATURES, lab / "out", force=True, progress=False).ok
    of.open_results(lab / "out").load()


def as_before(path):
    """Write a result as format 2 has it: text as categories, units and metadata in its schema."""
    metadata = read_metadata(path) | {"format": 2}
    metadata.pop("units")
    table = pq.read_table(path)
    plain = table.schema
    for i, field in enumerate(plain):
        if pa.types.is_string(field.type):
            table = table.set_column(i, field.name, table[i].dictionary_encode())
    pq.write_table(table.replace_schema_metadata({b"oectflow": json.dumps(metadata)}), path)
    about = pq.read_metadata(path)
    spans = []
    for i in range(about.num_columns):
        column = about.row_group(0).column(i)
        begins = [column.data_page_offset, column.dictionary_page_offset or 10**9]
        spans.append((min(begins), column.total_compressed_size))
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    parts = [*(data[start : start + n] for start, n in spans), data[:4], data[footer:]]
    digests = b"".join(xxhash.xxh3_64_intdigest(part).to_bytes(8, "little") for part in parts)
    end = len(parts).to_bytes(4, "little") + b"OEFLSUMS"
    path.write_bytes(data[:footer] + digests + end + data[footer:])


def test_results_of_the_version_before(lab):
    out = lab / "out"
    before = of.open_results(out).load()
    frame = of.results_frame(out).compute()
    for name in ("test_0", "test_2"):
        as_before(out / f"{name}.parquet")
        assert read_metadata(out / f"{name}.parquet")["format"] == 2
    now = of.open_results(out).load()
    assert now.identical(before)
    assert of.results_frame(out).compute().equals(frame)
    assert of.extract(lab / "raw", FEATURES, out, progress=False).counts == {"unchanged": 3}
    flipped(out / "test_0.parquet", 8 * 60)
    with pytest.raises(OutputError, match="column"):
        read_table(out / "test_0.parquet")
    with_one_more = FEATURES | {"n": {"extractor": "transient.cycles", "input": "transient"}}
    report = of.extract(lab / "raw", with_one_more, out, progress=False)
    assert report.experiments[2].reused == ("peak", "gm")
    assert read_metadata(out / "test_2.parquet")["format"] == 3


def test_without_its_definitions_a_result_says_its_numbers_and_units(lab, monkeypatch):
    out = lab / "out"
    before = of.open_results(out).load()
    for definitions in list(out.glob("_definitions-*.json")):
        definitions.unlink()
    monkeypatch.setattr(result_metadata, "_known", {})
    with pytest.warns(DamagedResultWarning, match=f"3 of 3 files(.|\n)*{definitions.name}"):
        alone = of.open_results(out).load()
    assert alone["experiment"].equals(before["experiment"])
    for name in ("peak", "gm", "transient_Vd"):
        np.testing.assert_array_equal(alone[name], before[name])
        assert alone[name].attrs["units"] == before[name].attrs["units"]
    np.testing.assert_array_equal(alone["peak_status"], before["peak_status"])
    with pytest.warns(DamagedResultWarning, match="definitions"):
        assert len(of.results_frame(out)) == 6
    # What a number means is not known any more: it is computed anew.
    assert of.extract(lab / "raw", FEATURES, out, force=True, progress=False).ok
    assert of.open_results(out).load().identical(before)


def test_other_readers_see_page_checksums(made):
    path = made / "out" / "test_0.parquet"
    table = pq.read_table(path, page_checksum_verification=True)
    assert table.equals(read_table(path))
    import duckdb
    import polars

    assert polars.read_parquet(path).shape[0] == 2
    assert duckdb.sql(f"select count(*) from '{path}'").fetchall() == [(2,)]


def test_a_file_that_other_software_has_rewritten_can_be_read(made, tmp_path):
    path = tmp_path / "test_0.parquet"
    pq.write_table(pq.read_table(made / "out" / path.name), path)
    assert values(path)[0].equals(values(made / "out" / path.name)[0])


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"a.b": [1.0, 2.0], "a": [3.0, 4.0]}),
        pa.table({"x": pa.array([], pa.float64())}),
        pa.table({"l": [[1, 2], [], None], "s": [{"k": "v"}] * 3}),
    ],
)
def test_checksums_of_any_table(tmp_path, table):
    path = tmp_path / "x.parquet"
    pq.write_table(table, path)
    add_checksums(path)
    for columns in (None, table.column_names[:1]):
        with open_checked(path, columns) as file:
            assert file.read(columns=columns).equals(table.select(columns or table.column_names))


def test_columns_that_are_asked_for_are_looked_at_once_however_many_there_are(tmp_path):
    class Counted(list):
        n = 0

        def __iter__(self):
            Counted.n += 1
            return super().__iter__()

        def __contains__(self, name):
            Counted.n += 1
            return super().__contains__(name)

    names = [f"c{i}" if i % 2 else f"c.{i}" for i in range(300)]
    path = tmp_path / "wide.parquet"
    pq.write_table(pa.table({name: np.arange(2.0) for name in names}), path, compression="none")
    add_checksums(path)
    n_bytes = pq.read_metadata(path).row_group(0).column(298).data_page_offset
    with open_checked(path, Counted(names)) as file:
        assert file.read(names).num_columns == 300
    assert Counted.n <= 3
    content = bytearray(path.read_bytes())
    content[n_bytes] ^= 1
    path.write_bytes(content)
    with open_checked(path, names[:298]):
        pass
    with pytest.raises(DamagedFile, match=r"column 'c\.298'"), open_checked(path, names):
        pass


def with_metadata(path, change):
    table = pq.read_table(path)
    metadata = copy.deepcopy(unpack(pq.read_metadata(path).metadata[b"oectflow"], path))
    text = change(metadata)
    text = json.dumps(metadata) if text is None else text
    pq.write_table(table.replace_schema_metadata({b"oectflow": text}), path)


HOSTILE = {
    "no JSON": lambda m: "{",
    "brackets": lambda m: "[" * 100_000,
    "a list": lambda m: "[1]",
    "a long number": lambda m: '{"format": ' + "9" * 5000 + "}",
    "no format": lambda m: m.pop("format") and None,
    "no identity": lambda m: m.pop("identity") and None,
    "identity of numbers": lambda m: m["identity"].update(chip_id=7),
    "identity that is no text": lambda m: m["identity"].update(experiment_id="\udcff"),
    "no source": lambda m: m.update(source=None),
    "rows below zero": lambda m: m.update(n_rows=-1),
    "variables without columns": lambda m: m["variables"]["peak"].pop("columns") and None,
    "variables of nothing": lambda m: m.update(variables={"peak": None}),
    "features of nothing": lambda m: m.update(features=3),
    "counts of text": lambda m: m["features"]["peak"].update(counts={"ok": "many"}),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
def test_metadata_of_a_stranger_stop_nothing_else(lab, change):
    out = lab / "out"
    with_metadata(out / "test_1.parquet", change)
    with pytest.warns(DamagedResultWarning, match=r"test_1\.parquet"):
        assert of.open_results(out).sizes["experiment"] == 2
    report = of.extract(lab / "raw", FEATURES, out, progress=False)
    assert report.counts == {"done": 1, "unchanged": 2}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert of.open_results(out).sizes["experiment"] == 3


def renamed(path, **attributes):
    with h5py.File(path, "r+") as file:
        file.attrs.update(attributes)


def test_ids_that_give_one_name_of_a_file(lab):
    renamed(lab / "raw" / "0.h5", test_id="lot 7/a")
    renamed(lab / "raw" / "1.h5", test_id="lot 7_a")
    both = of.extract(lab / "raw", FEATURES, lab / "new", progress=False)
    (failed,) = both.failed
    assert "'lot 7/a'" in failed.reason
    assert "'lot 7_a'" in failed.reason
    later = of.extract(lab / "raw" / "1.h5", FEATURES, lab / "new", force=True, progress=False)
    assert "experiment_id='lot 7/a' and not 'lot 7_a'" in later.failed[0].reason
    assert "0.h5" in later.failed[0].reason
    about = read_metadata(lab / "new" / "lot_7_a.parquet")
    assert about["identity"]["experiment_id"] == "lot 7/a"


def test_one_test_id_on_two_chips_in_two_runs(lab):
    renamed(lab / "raw" / "1.h5", test_id="test_0", chip_id="another")
    before = (lab / "out" / "test_0.parquet").read_bytes()
    report = of.extract(lab / "raw" / "1.h5", FEATURES, lab / "out", progress=False)
    assert "chip_id=" in report.failed[0].reason
    assert (lab / "out" / "test_0.parquet").read_bytes() == before


def test_a_chip_that_was_corrected_in_its_file(lab):
    of.extract(lab / "raw", FEATURES, lab / "new", progress=False)
    renamed(lab / "raw" / "0.h5", chip_id="corrected")
    assert of.extract(lab / "raw" / "0.h5", FEATURES, lab / "new", progress=False).ok
    assert of.open_results(lab / "new")["chip_id"].values[0] == "corrected"


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        ({"test_id": "x" * 300}, "300 bytes"),
        ({"test_id": "测" * 100}, "300 bytes"),
        ({"test_id": np.bytes_(b"\xff\xfe")}, "UTF-8 text"),
        ({"chip_id": "c" * 60_000}, "60,000 characters"),
        ({"device_number": "c" * 60_000}, "60,000 characters"),
    ],
)
def test_names_that_cannot_be_stored_are_one_failed_experiment(lab, attributes, word):
    renamed(lab / "raw" / "1.h5", **attributes)
    report = of.extract(lab / "raw", FEATURES, lab / "new", progress=False)
    assert len(list((lab / "new").glob("*.parquet"))) == 2
    assert [word in record.reason for record in report.failed] == [True]


@pytest.mark.parametrize("name", ["long", "surrogate"])
def test_ids_that_stopped_a_run(shared_data, lab, name):
    shutil.copy(shared_data / "faults" / "05-test-id-stops-run" / f"{name}.h5", lab / "raw")
    report = of.extract(lab / "raw", FEATURES, lab / "new", progress=False)
    assert len(report.failed) == 1
    assert "test_id=" in report.failed[0].reason
    assert report.counts["done"] == 3
