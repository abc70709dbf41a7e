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

import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
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
    requests: list[tuple[str, float, float, int]] = []
    waiting = [0.0]

    def answer(environ: dict[str, Any], start: Any) -> Any:
        method, name = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        begin = time.monotonic()
        if name.startswith("/-/"):
            body = json.dumps(requests).encode()
            requests.clear()
            waiting[0] = latency
            start("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        path = folder / Path(unquote(name)).relative_to("/bucket") if "/raw" in name else None
        if method == "GET" and path is not None and path.is_file():
            parts = _sent(path, environ.get("HTTP_RANGE", ""), start)
        else:
            parts = list(application(environ, start))
        n_bytes = sum(map(len, parts)) if method == "GET" else 0
        takes = waiting[0] + n_bytes / rate if waiting[0] else 0
        requests.append((method, begin, begin + takes, n_bytes))
        # Of what the server itself took, the request is not longer.
        time.sleep(max(0, begin + takes - time.monotonic()))
        return parts

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
    headers = [("Content-Length", str(len(body))), ("ETag", f'"{_etag(path)}"')]
    if asked:
        headers.append(("Content-Range", f"bytes {begin}-{stop - 1}/{size}"))
    start("206 Partial Content" if asked else "200 OK", headers)
    return [body]


@cache
def _etag(path: Path) -> str:
    """Return that of an object that was put in one request."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


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

    def reset(self) -> list[tuple[str, float, float, int]]:
        """Return the requests since it was asked last; from the first time on, each takes time."""
        with urllib.request.urlopen(f"{self._url}/-/") as answer:
            requests: list[tuple[str, float, float, int]] = json.loads(answer.read())
        return requests

    def measured(self, what: Callable[[], Any]) -> dict[str, Any]:
        """Do something, and return how long it took, the requests, and how long one was waited for.

        ``waiting`` is the time in which there was a request, one or several, as long as latency and
        rate say; a machine that is busy with others makes it hardly longer.
        """
        self.reset()
        begin = time.perf_counter()
        what()
        seconds = time.perf_counter() - begin
        requests = self.reset()
        waiting, until = 0.0, 0.0
        for _, start, stop, _ in sorted(requests, key=lambda request: request[1]):
            waiting += max(0.0, stop - max(start, until))
            until = max(until, stop)
        return {
            "s": round(seconds, 2),
            "waiting": round(waiting, 2),
            "MB": round(sum(n_bytes for *_, n_bytes in requests) / 1e6, 1),
            "requests": dict(Counter(method for method, *_ in requests)),
        }

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
    # It remembers files, too.
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


def measure(store: Store, raw: Path, every: int) -> dict[str, Any]:
    """Measure one set of raw files: metadata, then samples; ours, and naively."""
    from oectflow.pipeline.inputs import guard

    url = f"s3://bucket/raw/{raw.name}"
    sizes = [path.stat().st_size for path in raw.glob("*.h5")]
    experiments: list[Any] = []
    rows: dict[str, Any] = {"files": len(sizes), "MB": round(sum(sizes) / 1e6, 1)}
    forget()
    our_metadata(str(raw))
    guard._seen.clear()
    begin = time.perf_counter()
    our_samples(our_metadata(str(raw)), every)
    rows["all on the disk"] = {"s": round(time.perf_counter() - begin, 2)}
    about = rows["our metadata"] = store.measured(lambda: experiments.extend(our_metadata(url)))
    rows["our samples"] = store.measured(lambda: our_samples(experiments, every))
    samples = rows["our samples"]
    ours = rows["our all"] = {key: about[key] + samples[key] for key in ("s", "waiting")}
    for name, options in _NAIVE.items():
        rows[f"naive metadata, {name}"] = store.measured(partial(naive_metadata, url, **options))
        rows[f"naive all, {name}"] = store.measured(partial(naive_samples, url, every, **options))
    for name in _NAIVE:
        naive = rows[f"naive all, {name}"]
        rows[f"times as fast as {name}"] = {
            key: round(naive[key] / ours[key], 1) for key in ("s", "waiting")
        }
    rows["metadata requests per file"] = round(sum(about["requests"].values()) / len(sizes), 2)
    return rows


def bounds(rows: dict[str, Any], latency: float, rate: float) -> dict[str, float]:
    """Return what latency and rate alone would take for what was sent, in s.

    Naively there is one connection, and all requests follow each other.  Ours are a listing, the
    begin of a file, its index, and samples, on one connection and on as many as there may be.
    """
    from oectflow.object_store import _TOGETHER

    sent = rows["our metadata"]["MB"] + rows["our samples"]["MB"]
    return {
        **{
            f"naive, {name}": round(
                latency * sum(rows[f"naive all, {name}"]["requests"].values())
                + rows[f"naive all, {name}"]["MB"] / rate,
                2,
            )
            for name in _NAIVE
        },
        "ours, bytes on one connection": round(4 * latency + sent / rate, 2),
        f"ours, bytes on {_TOGETHER}": round(4 * latency + sent / rate / _TOGETHER, 2),
    }


def main() -> None:
    """Measure both sets, print it, and say what is less than wanted."""
    parser = _machine.parser(__doc__)
    parser.add_argument("--latency", type=float, default=0.06, help="of a request, in s")
    parser.add_argument("--rate", type=float, default=90, help="of one request, in MB/s")
    parser.add_argument("--files", type=int, default=2, help="of the headline")
    parser.add_argument("--no-runs", dest="runs", action="store_false", help="without workers")
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
            rows = []
            for name, raw, every in (
                ("demo", demo, 1),
                (f"headline, every {EVERY}th range", headline, EVERY),
                ("headline, all of it", headline, 1),
            ):
                rows.append({"set": name} | measure(store, raw, every))
                rows[-1]["bounds"] = bounds(rows[-1], options.latency, options.rate)
            if options.runs:
                rows[0]["runs"] = runs(demo, folder / "out-demo", "all")
                rows[1]["runs"] = runs(headline, folder / "out-headline", "transient_tau")
        finally:
            store.close()
    for row in rows:
        for name, value in row.items():
            print(f"{name:28} {value}")
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))
    many = rows[0]["metadata requests per file"]
    if many > WANTED_REQUESTS:
        print(f"more than {WANTED_REQUESTS} requests for the metadata of a small file: {many}")
    for row in rows:
        least = min(row[f"times as fast as {name}"]["s"] for name in _NAIVE)
        if least < WANTED_RATIO:
            print(f"{row['set']}: {least} times as fast as h5py over s3fs, wanted {WANTED_RATIO}")


if __name__ == "__main__":
    main()
