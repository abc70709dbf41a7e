"""The bar counts steps once, and ends with the truth."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import nbformat
import pytest
from rich.console import Console

from oectflow.pipeline.execution.driving.progress import RunProgress


def batch(experiment_id, n, n_errors=0):
    return {
        "kind": "batch",
        "experiment_id": experiment_id,
        "n_logical": n,
        "n_errors": n_errors,
    }


def last_line(console):
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()][-1]


@pytest.fixture
def console():
    return Console(file=io.StringIO(), force_terminal=True, width=200)


def test_progress__a_batch_that_ran_twice_counts_once(console):
    # Five features of three steps.
    with RunProgress({"a": 10, "b": 5}, 3, console=console) as bar:
        bar.event({"kind": "written", "experiment_id": "a"})
        for _ in range(2):
            bar.event(batch("a", 8))
        bar.finish("a")
        bar.event(batch("b", 2, n_errors=1))
    # All of a, and two of the five features of the one step of b.
    assert "2/3 steps" in last_line(console)
    assert "done after" in last_line(console)
    assert "1 errors" in last_line(console)


def test_progress__says_that_it_was_stopped(console):
    def interrupted():
        with RunProgress({"a": 10}, 10, console=console) as bar:
            bar.event(batch("a", 3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "3/10" in last_line(console)
    assert "stopped by KeyboardInterrupt after" in last_line(console)


def test_progress__hidden(capsys):
    with RunProgress({"a": 1}, 1, shown=False) as bar:
        bar.finish("a")
    assert capsys.readouterr().out == ""


def test_progress__a_widget_in_a_notebook(tmp_path):
    notebook = nbformat.v4.new_notebook()
    source = """
from oectflow.pipeline.execution.driving.progress import RunProgress
try:
    with RunProgress({"a": 1000, "b": 500}, 1500) as bar:
        bar.finish("a")
        raise ValueError
except ValueError:
    pass
box = bar._bar
print(box._label.value, box._bar.bar_style, box._bar.value, sep="|")
"""
    notebook.cells.append(nbformat.v4.new_code_cell(source))
    path = tmp_path / "progress.ipynb"
    nbformat.write(notebook, path)
    # In a process of its own: the client of a kernel leaves sockets and event loops behind.
    command = [sys.executable, "-c", "from nbclient.cli import main; main()", "--inplace", path]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    outputs = nbformat.read(path, as_version=4).cells[0].outputs
    views = [o for o in outputs if "application/vnd.jupyter.widget-view+json" in o.get("data", {})]
    assert len(views) == 1
    (printed,) = (o.text for o in outputs if o.output_type == "stream")
    label, style, value = printed.strip().split("|")
    assert label.startswith("1,000 of 1,500 steps: stopped by ValueError after")
    assert (style, value) == ("danger", "1000")
