"""How long questions take over many stored spans, and DuckDB over the same files.

Fill a server's folder first, for example with ten million spans, and leave the server running until its files are merged::

    scouter-server serve --storage /tmp/bench
    loadgen --spans 10000000 --batch 4096 --seed 7
    python examples/python/question_bench.py --storage /tmp/bench

Each question is asked over HTTP of the running server, several times, after some rounds to warm up, and then as SQL of DuckDB in this
process, on the files that the Delta table names. Both have the machine's threads and a warm page cache. ``read`` is what the process asked
the kernel for (``rchar`` of ``/proc/PID/io``) in one question, in the median; ``first`` is that of the very first.
"""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import json
import random
import statistics
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable

Ask = Callable[[random.Random], object]


class Server:
    """A logged-in connection that stays open."""

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=120)
        self._headers: dict[str, str] = {}
        body = self._request("GET", "/scouter/auth/login", None, {"Username": "guest", "Password": "guest"})
        self._headers = {"Authorization": f"Bearer {json.loads(body)['token']}", "Content-Type": "application/json"}

    def _request(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> bytes:
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {answer[:300]!r}")
        return answer

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        query = urllib.parse.urlencode(parameters)
        answer: dict[str, Any] = json.loads(self._request("GET", f"{path}?{query}", None, self._headers))
        return answer

    def sql(self, query: str) -> list[list[Any]]:
        answer = self._request("POST", "/api/v1/sql", json.dumps({"query": query, "int64": "string"}), self._headers)
        rows: list[list[Any]] = json.loads(answer)["rows"]
        return rows


@dataclasses.dataclass
class Figures:
    """Of one question asked several times."""

    millis: list[float]
    read: list[int]
    first_read: int

    def text(self) -> str:
        ordered = sorted(self.millis)
        p99 = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
        return f"{statistics.median(ordered):.1f} | {p99:.1f} | {statistics.median(self.read) / 1e6:.2f} | {self.first_read / 1e6:.2f}"


def read_bytes(process: int | str) -> int:
    text = Path(f"/proc/{process}/io").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("rchar")))


def measure(ask: Ask, process: int | str, rounds: int) -> Figures:
    dice = random.Random(1)
    before = read_bytes(process)
    ask(dice)
    first_read = read_bytes(process) - before
    for _ in range(min(rounds // 4, 5)):
        ask(dice)
    millis, read = [], []
    for _ in range(rounds):
        before = read_bytes(process)
        started = time.perf_counter()
        ask(dice)
        millis.append((time.perf_counter() - started) * 1e3)
        read.append(read_bytes(process) - before)
    return Figures(millis, read, first_read)


def server_process(storage: Path) -> int:
    """The process that holds the folder."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and str(storage).encode() in words:
            return int(entry.name)
    raise SystemExit(f"no scouter-server serves {storage}")


# As DuckDB answers what a page of the trace list shows: the newest traces with a span that passes, and what is in them.
SEARCH = """
WITH hits AS (SELECT trace_id, min(start_unix_nano) AS first FROM spans WHERE {0} GROUP BY trace_id ORDER BY first DESC LIMIT 20)
SELECT hex(trace_id), count(*), min(start_unix_nano), max(start_unix_nano + duration_nano), count(*) FILTER (status_code = 2),
       list(DISTINCT service_name), arg_min(name, start_unix_nano)
FROM spans WHERE trace_id IN (SELECT trace_id FROM hits) GROUP BY trace_id
"""
SERIES = """
SELECT service_name, start_unix_nano // {0} AS bucket, count(*), count(*) FILTER (status_code = 2),
       quantile_cont(duration_nano, [0.5, 0.95, 0.99]), max(duration_nano) FROM spans GROUP BY ALL
"""
SCAN = "SELECT service_name, name, count(*), avg(duration_nano), max(duration_nano) FROM spans GROUP BY service_name, name"


def questions(server: Server, duck: duckdb.DuckDBPyConnection) -> list[tuple[str, int, Ask, Ask]]:
    """Name, rounds, how the server is asked, how DuckDB is."""
    ids = [row[0] for row in server.sql("SELECT hex(trace_id) FROM spans WHERE span_id < X'0010000000000000' LIMIT 2000")]
    attributes = json.loads(server.sql("SELECT attributes FROM spans WHERE http_route IS NOT NULL LIMIT 1")[0][0])
    services = [row["service"] for row in server.get("/api/v1/services")["services"]]
    request_id = next(key for key in attributes if key.endswith("id"))
    needles = [row[0] for row in server.sql(f"SELECT attr(attributes, '{request_id}') FROM spans LIMIT 200")]
    first, last = (int(text) for text in server.sql("SELECT min(start_unix_nano), max(start_unix_nano) FROM spans")[0])
    bucket = int(server.get("/api/v1/series", by="service")["bucket_nano"])

    def duck_all(sql: str, parameters: list[Any] | None = None) -> object:
        return duck.execute(sql, parameters or []).fetchall()

    def search(**parameters: str) -> object:
        return server.get("/api/v1/traces", limit="20", **parameters)

    def a_minute(dice: random.Random) -> tuple[int, int]:
        start = dice.randrange(first, max(first + 1, last - (last - first) // 50))
        return start, start + (last - first) // 50

    def in_a_while(dice: random.Random) -> object:
        start, end = a_minute(dice)
        return search(start=str(start), end=str(end), service=dice.choice(services))

    def duck_in_a_while(dice: random.Random) -> object:
        start, end = a_minute(dice)
        service = dice.choice(services).replace("'", "''")
        return duck_all(SEARCH.format(f"start_unix_nano >= {start} AND start_unix_nano < {end} AND service_name = '{service}'"))

    return [
        (
            "one trace by its id, whole",
            100,
            lambda dice: server.get(f"/api/v1/traces/{dice.choice(ids)}", detail="full"),
            lambda dice: duck_all("SELECT * FROM spans WHERE trace_id = ?", [bytes.fromhex(dice.choice(ids))]),
        ),
        (
            "newest 20 traces of a service",
            30,
            lambda dice: search(service=dice.choice(services)),
            lambda dice: duck_all(SEARCH.format(f"service_name = '{dice.choice(services)}'")),
        ),
        (
            "newest 20 failed traces of a service",
            30,
            lambda dice: search(service=dice.choice(services), status="error"),
            lambda dice: duck_all(SEARCH.format(f"service_name = '{dice.choice(services)}' AND status_code = 2")),
        ),
        ("newest 20 of a service in a fiftieth of the time", 30, in_a_while, duck_in_a_while),
        (
            "20 slowest traces",
            10,
            lambda _: search(sort="slowest"),
            lambda _: duck_all(
                SEARCH.format("true").replace("min(start_unix_nano) AS first", "max(duration_nano) AS first"),
            ),
        ),
        (
            "one span in all by an attribute that has no column",
            5,
            lambda dice: search(attr=f"{request_id}={dice.choice(needles)}"),
            lambda dice: duck_all(
                SEARCH.format(f"json_extract_string(attributes, '$.\"{request_id}\"') = '{dice.choice(needles)}'"),
            ),
        ),
        (
            "count, errors, p50, p95, p99 of each service over all time in buckets",
            5,
            lambda _: server.get("/api/v1/series", by="service"),
            lambda _: duck_all(SERIES.format(bucket)),
        ),
        ("full scan: count, mean and longest by service and name", 5, lambda _: server.sql(SCAN), lambda _: duck_all(SCAN)),
        (
            "full scan of the attributes' JSON",
            3,
            lambda _: server.sql(f"SELECT count(*) FROM spans WHERE attr(attributes, '{request_id}') < '1'"),
            lambda _: duck_all(f"SELECT count(*) FROM spans WHERE json_extract_string(attributes, '$.\"{request_id}\"') < '1'"),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", type=Path, required=True, help="the folder, as it was given to the server")
    parser.add_argument("--server", default="127.0.0.1:8000", help="its HTTP address")
    parser.add_argument("--only", default="", help="questions with these words alone")
    arguments = parser.parse_args()

    server = Server(arguments.server)
    process = server_process(arguments.storage)
    files = DeltaTable(str(arguments.storage / "tables" / "spans")).file_uris()
    duck = duckdb.connect()
    duck.execute("SET parquet_metadata_cache = true")
    names = ", ".join(f"'{name}'" for name in files)
    duck.execute(f"CREATE VIEW spans AS SELECT * FROM read_parquet([{names}])")
    count = server.sql("SELECT count(*) FROM spans")[0][0]
    size = sum(Path(name.removeprefix("file://")).stat().st_size for name in files)
    print(f"{count} spans, {len(files)} files, {size / 1e6:.0f} MB; DuckDB {duckdb.__version__}")
    print("| question | p50 ms | p99 ms | read MB | first read MB | DuckDB p50 ms | p99 ms | read MB | first read MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, rounds, ask_server, ask_duck in questions(server, duck):
        if arguments.only in name:
            ours = measure(ask_server, process, rounds)
            theirs = measure(ask_duck, "self", min(rounds, 10))
            print(f"| {name} | {ours.text()} | {theirs.text()} |", flush=True)


if __name__ == "__main__":
    main()
