"""Raw files in an object store with requests of 60 ms: ours beside h5py over s3fs, and a disk.

    python benchmarks/object_store.py [--latency 0.06] [--rate 90] [--files 2] [--json PATH]

A server on loopback, in a process of its own, waits before it answers a request, counts it, and
sends no more than 90 MB/s in each, as S3 does.  Requests are answered by moto; the bytes of raw
files are sent from the disk by the server itself, since moto copies whole objects for each range.

Two sets of raw files: those of the demo, each eight times (0.9 MB, fetched whole), and some of
``headline.py`` (48 MB, read by ranges).  What a process does once (imports, compiled code, the
child that looks at files first) is done before.  Of each set

* metadata: all that a run needs to plan, of every file: requests for each file, and seconds;
* samples: all of the demo's files; of the headline's, every fourth range of 50 steps, as tasks read
  them;
* the same of ours from the disk, which is what is computed without waiting for anything;
* the same with ``h5py.File(s3fs.open(...))``, with s3fs as it is by default, which fetches blocks
  of 50 MB, and with blocks of 5 MB: one file after the other, only what is needed;
* a run with 2 workers, from the store and into it, and from the disk and into it.

Wanted: five times as fast as the faster of the naive ones, and 3 requests for the metadata of a
small file at most.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import _machine
import headline_data

from oectflow.pipeline.demo import make_demo

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
WANTED_RATIO, WANTED_REQUESTS = 5.0, 3
#: Steps that a task of a headline's file reads, and every which of these ranges is read here.
RANGE, EVERY, COPIES = 50, 4, 8
_NAIVE: dict[str, dict[str, Any]] = {"50 MB": {}, "5 MB": {"block_size": 5 * 2**20}}


def serve(folder: Path, latency: float, rate: float, ports: Any) -> None:
    """Answer requests until the process is ended; ``/-/`` tells how many, and begins anew."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: Any) -> None:
            pass

    application = DomainDispatcherApplication(create_backend_app)
    counts: dict[str, int] = {}
    waiting = [0.0]

    def answer(environ: dict[str, Any], start: Any) -> Any:
        method, name = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if name.startswith("/-/"):
            body = json.dumps(counts).encode()
            counts.clear()
            waiting[0] = latency
            start("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        time.sleep(waiting[0])
        counts[method] = counts.get(method, 0) + 1
        path = folder / Path(unquote(name)).relative_to("/bucket") if "/raw" in name else None
        if method == "GET" and path is not None and path.is_file():
            parts = _sent(path, environ.get("HTTP_RANGE", ""), start)
            time.sleep(len(parts[0]) / rate if waiting[0] else 0)
            return parts
        return application(environ, start)

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=Handler)
    ports.send(server.server_port)
    server.serve_forever()


def _sent(path: Path, asked: str, start: Any) -> list[bytes]:
    size = path.stat().st_size
    first, _, last = asked.removeprefix("bytes=").partition("-")
    begin, stop = int(first or 0), min(size, int(last or size - 1) + 1)
    with path.open("rb") as file:
        file.seek(begin)
        body = file.read(stop - begin)
    headers = [("Content-Length", str(len(body))), ("ETag", '"x"')]
    if asked:
        headers.append(("Content-Range", f"bytes {begin}-{stop - 1}/{size}"))
    start("206 Partial Content" if asked else "200 OK", headers)
    return [body]


class Store:
    """The server, and what is measured at it."""

    def __init__(self, folder: Path, latency: float, rate: float) -> None:
        context = multiprocessing.get_context("spawn")
        ports, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(folder, latency, rate, theirs), daemon=True
        )
        self._process.start()
        self._url = f"http://127.0.0.1:{ports.recv()}"
        os.environ.update(KEYS, AWS_ENDPOINT_URL=self._url)

    def reset(self) -> dict[str, int]:
        """Return the requests since it was asked last; from the first time on, each takes time."""
        with urllib.request.urlopen(f"{self._url}/-/") as answer:
            counts: dict[str, int] = json.loads(answer.read())
        return counts

    def measured(self, what: Callable[[], Any]) -> dict[str, Any]:
        """Do something and return how long it took, and the requests."""
        self.reset()
        begin = time.perf_counter()
        what()
        seconds = time.perf_counter() - begin
        return {"s": round(seconds, 2), "requests": self.reset()}

    def close(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.join()


def forget() -> None:
    """Forget what was read, as a process that has just begun."""
    from oectflow import object_store
    from oectflow.pipeline.inputs import guard, object_file

    object_store._contents._kept.clear()
    object_file._indexes._kept.clear()
    object_file._chunks._kept.clear()
    object_file._saved.clear()
    guard._seen.clear()
    guard._child.stop()


def rename(path: Path, number: int) -> None:
    """Give a copy an id of its own; the one file that is cut off has none."""
    import h5py

    try:
        with h5py.File(path, "r+") as file:
            file.attrs["test_id"] = f"{number}-{file.attrs['test_id']}"
    except OSError:
        return


def warm_up(disk: Path, url: str) -> None:
    """Do once what a process does once."""
    our_metadata(url)
    naive_metadata(url)
    forget()
    # The child was stopped, since it remembers files, too.
    our_samples(our_metadata(str(disk))[:1], 1)


def our_metadata(url: str) -> list[Any]:
    """Open all raw files of a folder, as a run does that plans; one of the demo is cut off."""
    from oectflow.errors import InputError
    from oectflow.pipeline.inputs.find import find_experiments
    from oectflow.pipeline.outputs.states import RawFiles
    from oectflow.place import place

    paths = find_experiments(url)
    looked = RawFiles(place("memory://nothing"))
    looked.look_ahead(paths)
    found = []
    for path in paths:
        try:
            found.append(looked.look(path).experiment)
        except InputError:
            continue
    return found


def our_samples(experiments: list[Any], every: int) -> None:
    """Read steps, in ranges as tasks do."""
    for experiment in experiments:
        for source in experiment.sources:
            n = experiment.n_steps(source)
            wanted = ["time", "original_time", "Id", "Vg"]
            for start in range(0, n, RANGE * every):
                experiment.batch(source, start, min(n, start + RANGE), wanted)


def naive_metadata(url: str, **options: Any) -> None:
    """Read attributes, step tables and shapes of all files with h5py."""
    _naively(url, lambda _: None, **options)


def naive_samples(url: str, every: int, **options: Any) -> None:
    """Read the same samples with h5py."""

    def read(file: Any) -> None:
        for name in ("transfer", "transient"):
            if name not in file:
                continue
            data, table = file[name]["measurement_data"], file[name]["step_info_table"][()]
            for start in range(0, len(table), RANGE * every):
                stop = min(len(table), start + RANGE)
                if name == "transfer":
                    data[start:stop]
                    continue
                begin, end = table["start_data_index"][start], table["end_data_index"][stop - 1]
                for row in range(3):
                    data[row, int(begin) : int(end)]

    _naively(url, read, **options)


def _naively(url: str, read: Callable[[Any], None], **options: Any) -> None:
    import h5py
    import s3fs

    store = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    for name in sorted(store.find(url)):
        if not name.endswith(".h5"):
            continue
        with store.open(name, **options) as raw:
            try:
                with h5py.File(raw) as file:
                    dict(file.attrs)
                    for kind in ("transfer", "transient"):
                        if kind in file:
                            file[kind]["step_info_table"][()]
                            _ = file[kind]["measurement_data"].shape
                    read(file)
            except OSError:
                # One file of the demo is cut off.
                continue


def runs(raw: Path, out: Path, features: str) -> dict[str, Any]:
    """Run on two workers, from and into the disk, then the store; both results are the same."""
    import pyarrow.parquet as pq

    import oectflow as of
    from oectflow.place import place

    found: dict[str, Any] = {}
    url, target_url = f"s3://bucket/raw/{raw.name}", f"s3://bucket/{out.name}"
    with of.connect("local", n_workers=2, dashboard_port=0) as client:
        # What the first run of a process takes longer is no matter of the store.
        of.extract(raw, features, f"{out}-warm", client=client, progress=False)
        for where, source, target in (("disk", raw, out), ("store", url, target_url)):
            begin = time.perf_counter()
            report = of.extract(
                source, features, target, client=client, granularity=RANGE, progress=False
            )
            seconds = time.perf_counter() - begin
            n = sum(record.n_steps for record in report.experiments)
            begin = time.perf_counter()
            of.extract(source, features, target, client=client, progress=False)
            again = time.perf_counter() - begin
            found[where] = {
                "s": round(seconds, 2), "steps/s": round(n / seconds), "again_s": round(again, 2),
            }  # fmt: skip
    for path in out.glob("*.parquet"):
        with (place(target_url) / path.name).open("rb") as file:
            # NaN is no other NaN to Arrow.
            if repr(pq.read_table(file).to_pydict()) != repr(pq.read_table(path).to_pydict()):
                sys.exit(f"{path.name}: the results differ")
    return found


def measure(store: Store, raw: Path, folder: Path, features: str, every: int) -> dict[str, Any]:
    """Measure one set of raw files."""
    url = f"s3://bucket/raw/{raw.name}"
    sizes = [path.stat().st_size for path in raw.glob("*.h5")]
    n = len(sizes)
    experiments: list[Any] = []
    rows: dict[str, Any] = {"files": n, "MB": round(sum(sizes) / 1e6, 1)}
    begin = time.perf_counter()
    here = our_metadata(str(raw))
    rows["metadata on the disk"] = {"s": round(time.perf_counter() - begin, 2)}
    begin = time.perf_counter()
    our_samples(here, every)
    rows["samples on the disk"] = {"s": round(time.perf_counter() - begin, 2)}
    rows["our metadata"] = store.measured(lambda: experiments.extend(our_metadata(url)))
    rows["our samples"] = store.measured(lambda: our_samples(experiments, every))
    for name, options in _NAIVE.items():
        rows[f"naive metadata, {name}"] = store.measured(partial(naive_metadata, url, **options))
        rows[f"naive all, {name}"] = store.measured(partial(naive_samples, url, every, **options))
    ours = rows["our metadata"]["s"]
    best = min(rows[f"naive metadata, {name}"]["s"] for name in _NAIVE)
    rows["ratio metadata"] = round(best / ours, 1)
    best = min(rows[f"naive all, {name}"]["s"] for name in _NAIVE)
    rows["ratio all"] = round(best / (ours + rows["our samples"]["s"]), 1)
    about = rows["our metadata"]["requests"]
    rows["metadata requests per file"] = round(sum(about.values()) / n, 2)
    rows["runs"] = runs(raw, folder / f"out-{raw.name}", features)
    return rows


def main() -> None:
    """Measure both sets, print it, and say what is less than wanted."""
    parser = _machine.parser(__doc__)
    parser.add_argument("--latency", type=float, default=0.06, help="of a request, in s")
    parser.add_argument("--rate", type=float, default=90, help="of one request, in MB/s")
    parser.add_argument("--files", type=int, default=2, help="of the headline")
    parser.add_argument("--steps", type=int, default=938, help="of each of these")
    options = parser.parse_args()
    machine = _machine.describe()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        demo, headline = folder / "raw" / "demo", folder / "raw" / "headline"
        demo.mkdir(parents=True)
        for path in make_demo(folder / "made")[0].glob("*.h5"):
            for number in range(COPIES):
                shutil.copyfile(path, copy := demo / f"{number}-{path.name}")
                rename(copy, number)
        headline_data.make_data(headline, headline_data.Size(options.files, options.steps), 2)
        store = Store(folder, options.latency, options.rate * 1e6)
        try:
            import s3fs

            s3 = s3fs.S3FileSystem()
            s3.mkdir("bucket")
            for path in sorted(folder.glob("raw/*/*.h5")):
                s3.put(str(path), f"bucket/{path.relative_to(folder)}")
            warm_up(demo, "s3://bucket/raw/headline")
            rows = [
                {"set": "demo"} | measure(store, demo, folder, "all", 1),
                {"set": "headline"} | measure(store, headline, folder, "transient_tau", EVERY),
            ]
        finally:
            store.close()
    for row in rows:
        for name, value in row.items():
            print(f"{name:28} {value}")
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))
    slow = [row["set"] for row in rows if row["ratio all"] < WANTED_RATIO]
    many = rows[0]["metadata requests per file"]
    if many > WANTED_REQUESTS:
        print(f"more than {WANTED_REQUESTS} requests for the metadata of a small file: {many}")
    if slow:
        print(f"less than {WANTED_RATIO} times as fast as h5py over s3fs: {', '.join(slow)}")


if __name__ == "__main__":
    main()
