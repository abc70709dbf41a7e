"""A step that does not end, or does what no step should, costs itself and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import cloudpickle
import numpy as np
import psutil
import pytest

from oectflow.errors import ConfigError
from oectflow.extractors.base import ERROR, OK, BaseExtractor, get_extractor, register
from oectflow.measurement import Batch
from oectflow.pipeline.execution.driving.run import extract
from oectflow.pipeline.execution.worker import watch
from oectflow.pipeline.execution.worker.children import collect
from oectflow.pipeline.execution.worker.run_extractor import Steps, run_extractor, step_seconds
from oectflow.pipeline.execution.worker.watch import STEP_SECONDS, StepTimeout, Stuck, Watched
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.sink import read_columns, read_metadata

#: Long against what a step takes, short for a test.
LIMIT = 0.5


def endless():
    while True:
        pass


def deaf():
    """Catch what should end it, once."""
    while True:
        try:
            while True:
                pass
        except Exception:  # noqa: BLE001
            pass


def many_threads():
    for _ in range(20_000):
        threading.Thread(target=wait_for_the_end, daemon=True).start()


class Over:
    """An event; in a process that is given it, one of its own."""

    def __init__(self):
        self.event = threading.Event()

    def __reduce__(self):
        return Over, ()


OVER = Over()


def wait_for_the_end():
    OVER.event.wait(60)


@pytest.fixture
def no_threads_left():
    OVER.event.clear()
    yield
    OVER.event.set()


@pytest.fixture(autouse=True, scope="module")
def known_elsewhere():
    """Let what is defined here go with its code: a process of a step cannot import tests."""
    here = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(here)
    yield
    cloudpickle.unregister_pickle_by_value(here)


# One call -----------------------------------------------------------------------------------------


def test_watched__returns_and_raises_like_the_function():
    with Watched(60) as watched:
        assert watched.call(lambda: 2) == 2
        with pytest.raises(ValueError, match="no"):
            watched.call(lambda: int("no"))
        with pytest.raises(watch.StepEnded, match="SystemExit: 3"):
            watched.call(lambda: sys.exit(3))
        assert watched.call(threading.get_ident) == watched.call(threading.get_ident)


def test_watched__knows_the_settings_of_numpy():
    with np.errstate(divide="raise"), Watched(60) as watched, pytest.raises(FloatingPointError):
        watched.call(lambda: np.ones(1) / np.zeros(1))


@pytest.mark.parametrize("function", [endless, deaf])
def test_watched__ends_what_does_not_end(function):
    with Watched(LIMIT) as watched:
        with pytest.raises(StepTimeout, match=r"took longer than 0\.5 s") as told:
            watched.call(function)
        assert not isinstance(told.value, Stuck)
        # And goes on with the next one.
        assert watched.call(lambda: 1) == 1


def test_watched__a_limit_for_every_step():
    with Watched(LIMIT) as watched:
        assert watched.call(lambda: time.sleep(1.2 * LIMIT) or 1, 4) == 1


# CPython gives a thread that is just being started the id of its parent: it may be hit instead, and
# its parent by the next interruption.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_watched__stops_who_starts_threads_without_end(no_threads_left):
    with Watched(60) as watched:
        before = threading.active_count()
        with pytest.raises(StepTimeout, match="started more than 500 threads"):
            watched.call(many_threads)
        assert threading.active_count() - before < 10_000


# One extractor ------------------------------------------------------------------------------------


class At(BaseExtractor):
    """Does something in the second step."""

    name = "transient.at"
    source = "transient"

    def extract_single_step(self, step_data, params):
        if len(step_data["Id"]) == 2:
            self.does()
        return float(len(step_data["Id"]))


def does(function):
    return type("Does", (At,), {"does": staticmethod(function), "__module__": __name__})()


def steps():
    return Steps("transient", Batch({"Id": np.ones(6)}, np.array([0, 1, 3, 6])))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (endless, ["StepTimeout"]),
        # Where it cannot be ended in time, a process of its own meets the limit of the machine.
        (many_threads, ["StepTimeout", "RuntimeError"]),
        (sys.exit, ["StepEnded"]),
    ],
)
def test_evaluate__costs_the_step(function, kinds, no_threads_left):
    columns, errors = run_extractor(does(function), steps(), LIMIT)
    assert columns["status"].tolist() == [OK, ERROR, OK]
    assert columns["value"].tolist() == pytest.approx([1, np.nan, 3], nan_ok=True)
    assert list(errors) == [1]
    assert errors[1][0] in kinds


def test_evaluate__batch_that_does_not_end_is_divided():
    class Batched(At):
        def extract_batch(self, batch, params):
            endless()

        does = staticmethod(lambda: None)

    columns, errors = run_extractor(Batched(), steps(), LIMIT)
    assert columns["value"].tolist() == [1, 2, 3]
    assert errors == {}


ENDLESS_KERNEL = """
import numba
from oectflow.extractors.base import BaseExtractor

@numba.njit(nogil=True)
def compiled(x):
    while x > 0:
        x = x * 1.0 + 1e-300
    return x

class Endless(BaseExtractor):
    name = "transient.endless"
    source = "transient"

    def extract_single_step(self, step_data, params):
        n = len(step_data["drain_current"])
        return compiled(1.0) if n == {n} else float(n)
"""


def test_evaluate__compiled_code_is_killed_in_a_process_of_its_own(tmp_path):
    """In a process of its own here, too: what is left behind would go on until the end."""
    script = tmp_path / "script.py"
    script.write_text(
        ENDLESS_KERNEL.replace("{n}", "2")
        + """
import numpy as np
from oectflow.measurement import Batch
from oectflow.pipeline.execution.worker import watch
from oectflow.pipeline.execution.worker.run_extractor import Steps, run_extractor

watch._GRACE = 0.2
steps = Steps("transient", Batch({"drain_current": np.ones(6)}, np.array([0, 1, 3, 6])))
compiled(0.0)
columns, errors = run_extractor(Endless(), steps, 3.0)
print(columns["value"].tolist(), errors)
"""
    )
    told = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=200, check=True
    )
    assert told.stdout == "[1.0, nan, 3.0] {1: ('StepTimeout', 'took longer than 3 s')}\n"
    assert "transient.endless: a step took longer than 3 s, and cannot be ended" in told.stderr


def test_step_seconds():
    ours, theirs = get_extractor("transfer.gm_max"), does(endless)
    assert step_seconds(ours, "auto") is None
    assert step_seconds(theirs, "auto") == STEP_SECONDS
    assert step_seconds(ours, 3.0) == step_seconds(theirs, 3.0) == 3.0
    assert step_seconds(theirs, None) is None


# Processes ----------------------------------------------------------------------------------------


def alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_forked_children__end_with_their_step(tmp_path):
    def fork():
        pid = os.fork()
        if pid == 0:
            time.sleep(600)
        (tmp_path / "pid").write_text(str(pid))

    with Watched(60) as watched:
        watched.call(fork)
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
    os.waitpid(pid, 0)
    assert not alive(pid)


def test_forked_children__that_return_do_not_go_on_here(tmp_path):
    def fork():
        if os.fork() == 0:
            return "child"
        return "parent"

    with Watched(60) as watched:
        assert watched.call(fork) == "parent"


CHILD = """
import os, time
from oectflow.pipeline.execution.worker.children import serve

def compute(work):
    for what in work:
        pid = os.fork()
        if pid == 0:
            time.sleep(600)
        if what == "hang":
            time.sleep(600)
        if what == "die":
            os._exit(3)
        if what == "leave":
            os._exit(0)
        yield os.getpid(), pid

def child():
    serve(compute)
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    (tmp_path / "a_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return "a_child:child"


@pytest.mark.parametrize(
    ("work", "n_done", "kind", "text"),
    [
        (["", ""], 2, None, ""),
        (["", "hang", ""], 1, "StepTimeout", "took longer than 1 s"),
        (["", "die", ""], 1, "ProcessDied", "ended with exit status 3"),
        (["leave"], 0, "ProcessDied", "ended with exit status 0"),
        # It may have been told to make room: the next one begins with this.
        (["", "leave"], 1, None, ""),
    ],
)
def test_children__end_with_all_that_they_have_forked(child, work, n_done, kind, text):
    done, cause = collect(child, work, [1.0] * len(work))
    assert len(done) == n_done
    assert (cause and cause[0]) == kind
    assert text in (cause[1] if cause else "")
    assert wait_until(lambda: not any(alive(pid) for pair in done for pid in pair))


def test_children__end_with_the_thread_that_has_started_them(child, tmp_path):
    """As where a worker is killed."""
    script = (
        "from oectflow.pipeline.execution.worker import children\n"
        "import subprocess\n"
        "start = subprocess.Popen.__init__\n"
        "def told(self, *args, **options):\n"
        "    start(self, *args, **options)\n"
        "    print(self.pid, flush=True)\n"
        "subprocess.Popen.__init__ = told\n"
        f"children.collect({child!r}, ['hang'], [None])\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    # It has begun when it has forked.
    assert wait_until(lambda: psutil.Process(pid).children())
    forked = [process.pid for process in psutil.Process(pid).children()]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert wait_until(lambda: not any(map(alive, [pid, *forked])))


# A whole run --------------------------------------------------------------------------------------


def two_devices(folder):
    for i in range(2):
        simulate_device(
            i, n_transfer=0, n_transient=4, n_cycles=2, period=0.06, test_id=f"test_{i}"
        ).write(folder / f"device{i}.h5")
    return folder


@pytest.mark.parametrize("way", ["inline", "cluster"])
@pytest.mark.parametrize("what", ["loop", "exit", "base exception"])
def test_extract__a_step_that_does_not_end_costs_itself(tmp_path, request, way, what):
    client = request.getfixturevalue("client") if way == "cluster" else None

    class Final(BaseException):
        pass

    @register("transient.awkward")
    class Awkward(BaseExtractor):
        source = "transient"

        def extract_single_step(self, step_data, params):
            current = step_data["drain_current"]
            if abs(current[7] - poison) < 1e-12:
                if what == "loop":
                    while True:
                        pass
                if what == "exit":
                    sys.exit(0)
                raise Final
            return current.mean()

    folder = two_devices(tmp_path)
    batch = Experiment(folder / "device0.h5").batch("transient", 0, 4)
    poison = batch.arrays["drain_current"][batch.offsets[2] + 7]
    features = {
        "awkward": {"extractor": "transient.awkward", "input": "transient"},
        "peak": {"extractor": "transient.peak_current", "input": "transient"},
    }
    report = extract(
        folder, features, tmp_path / "out", client=client, granularity="experiment",
        progress=False, step_timeout=1.0,
    )  # fmt: skip
    kind = "StepTimeout" if what == "loop" else "StepEnded"
    assert [(p.step, p.feature, p.error_type) for p in report.experiments[0].problems] == [
        (2, "awkward", kind)
    ]
    assert report.experiments[1].outcome == "done"
    path = tmp_path / "out" / "test_0.parquet"
    found = read_columns(path, ["awkward_status", "peak_status"], read_metadata(path))
    assert found["awkward_status"].tolist() == [OK, OK, ERROR, OK]
    assert found["peak_status"].tolist() == [OK] * 4


@pytest.mark.parametrize("limit", [0, -1, "soon", float("nan")])
def test_extract__limits_that_are_none(tmp_path, limit):
    with pytest.raises(ConfigError, match="step_timeout="):
        extract(tmp_path, {}, tmp_path / "out", step_timeout=limit)


def test_extract__compiled_code_without_end_costs_its_step_and_a_worker(tmp_path, mortal_client):
    @register("transient.compiled")
    class Compiled(BaseExtractor):
        source = "transient"

        def extract_single_step(self, step_data, params):
            # Here: imported in the worker, as there is nothing of this module.
            import numba

            @numba.njit(nogil=True)
            def endless(x):
                while x > 0:
                    x = x * 1.0 + 1e-300
                return x

            current = step_data["drain_current"]
            return endless(1.0 if abs(current[7] - poison) < 1e-12 else 0.0)

    folder = two_devices(tmp_path)
    batch = Experiment(folder / "device0.h5").batch("transient", 0, 4)
    poison = batch.arrays["drain_current"][batch.offsets[2] + 7]
    before = set(mortal_client.run(os.getpid).values())
    report = extract(
        folder, {"c": {"extractor": "transient.compiled", "input": "transient"}},
        tmp_path / "out", client=mortal_client, granularity="experiment", progress=False,
        step_timeout=10.0,
    )  # fmt: skip
    assert [(p.step, p.error_type) for p in report.experiments[0].problems] == [(2, "StepTimeout")]
    assert report.experiments[1].outcome == "done"
    # The thread that was left behind has ended with its process.
    assert wait_until(lambda: len(before & set(mortal_client.run(os.getpid).values())) <= 1)
