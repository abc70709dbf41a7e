"""Whatever happens to a file, a reader reads it or says why not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oectflow.errors import IngestError
from oectflow.pipeline.inputs.readers.registry import get_reader

TIME = np.arange(40) * 0.05
ROWS = [(t, 0.1, 1e-6 * np.exp(-t)) for t in TIME]


def _table(separator: str, form: str = "{:.5E}") -> str:
    return "\n".join(separator.join(form.format(value) for value in row) for row in ROWS)


def _gamry() -> str:
    rows = _table("\t").replace("\n", "\n\t")
    head = "EXPLAIN\nTAG\tCV\nVDC\tPOTEN\t1\tF\tDC\nCURVE\tTABLE\t40\n\tT\tVf\tIm\n\ts\tV\tA\n\t"
    return head + rows + "\nEXPERIMENTABORTED\tTOGGLE\tT\tAborted\n"


def _palmsens() -> str:
    def array(kind: int, unit: str, column: int) -> str:
        values = ",".join(f'{{"V":{row[column]},"S":0}}' for row in ROWS)
        head = f'{{"ArrayType":{kind},"Description":"x","Unit":{{"Type":"PalmSens.Units.{unit}"}}'
        return f'{head},"DataValues":[{values}]}}'

    arrays = ",".join([array(0, "Time", 0), array(1, "Volt", 1), array(2, "MicroAmpere", 2)])
    return (
        '{"Type":"PalmSens.DataFiles.SessionFile","Measurements":[{"Title":"CA","TimeStamp":63,'
        f'"Method":"A=1","DataSet":{{"Values":[{arrays}]}}}}]}}'
    )


FILES = {
    "gamry": _gamry(),
    "palmsens": _palmsens(),
    "biologic": "EC-Lab ASCII FILE\nNb header lines : 4\n\ntime/s\tEwe/V\tI/A\n" + _table("\t"),
    "keithley": "Time (s)\tV_G (V)\tI_DS (A)\n" + _table("\t") + "\nV_DS =\t-0.6\nWidth/um =\t4\n",
    "easyexpert": "SetupTitle, x\nTestParameter, Channel.VName, Vg\nDimension1, 20, 20, 20\n"
    "Dimension2, 2, 2, 2\nDataName, Time, Vg, Id\nDataValue, "
    + _table(", ").replace("\n", "\nDataValue, "),
}
WORDS = (b"\t", b",", b"\n", b"1e999", b"-", b'"', b"NaN", b"\0", b"9.91E37", b"{", b"\xff", b"=")


def damage(raw: bytes, source: random.Random) -> bytes:
    content = bytearray(raw)
    for _ in range(source.choice((1, 1, 3, 20))):
        at = source.randrange(len(content) + 1)
        match source.randrange(5):
            case 0:
                content[at : at + 1] = source.randbytes(1)
            case 1:
                del content[at : at + source.choice((1, 2, 50, 500))]
            case 2:
                content[at:at] = source.choice(WORDS)
            case 3:
                content[at:at] = content[(there := source.randrange(len(content) + 1)) : there + 90]
            case 4:
                content = content[: max(at, 1)] if source.random() < 0.2 else content
    return bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, name: str) -> None:
    reader: Any = get_reader(name)
    path = tmp_path / "file"
    raw = FILES[name].encode()
    path.write_bytes(raw)
    assert reader.recognises(path).confidence > 0.8
    assert reader.read(path).measurements[0].steps
    source = random.Random(name)
    refused = 0
    for _ in range(150):
        path.write_bytes(damage(raw, source))
        reader.recognises(path)
        try:
            measurements = reader.read(path).measurements
        except IngestError:
            refused += 1
            continue
        for measurement in measurements:
            for step in measurement.steps:
                beside = {len(one.values) for one in step.extra.values()}
                assert {len(array) for array in step.arrays.values()} | beside == {len(step)}
    assert 0 < refused < 150
