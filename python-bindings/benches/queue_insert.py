"""What `Queue.insert` costs the thread that calls it, beside Scouter's own client.

    python benches/queue_insert.py [--items 100000] [--rounds 5] [--peer PYTHON_WITH_SCOUTER_ML]

Both insert into a queue whose server is not reached; ours counts at once, the peer hands a copy to a thread of its own.
Rounds alternate; medians and ranges are printed, in nanoseconds of CPU an item on the calling thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROFILES = Path(__file__).resolve().parents[2] / "exporter" / "tests" / "fixtures" / "scouter-0.25"


def cases(items: int, is_peer: bool) -> dict[str, float]:
    from scouter import EvalRecord, Feature, Features, Metrics, ScouterQueue

    paths = {kind: PROFILES / f"profile_{kind}.json" for kind in ("psi", "spc", "custom", "genai")}
    if is_peer:
        from scouter.mock import MockConfig

        queues = ScouterQueue.from_path(paths, transport_config=MockConfig())
    else:
        from scouter import GrpcConfig

        queues = ScouterQueue.from_path(paths, transport_config=GrpcConfig("http://127.0.0.1:9"))
    time.sleep(0.5)
    three = {"f1": 1.5, "f2": 2.5, "f3": 3.5}
    ten = {f"f{n}": n + 0.3 for n in range(10)}
    three_made, ten_made, metrics = Features(three), Features(ten), Metrics({"acc": 0.9, "mae": 12.5})
    record = EvalRecord({"question": "x" * 200})
    psi, spc, custom, genai = (queues[kind] for kind in ("psi", "spc", "custom", "genai"))

    def made() -> None:
        psi.insert(Features([Feature.float("f1", 1.5), Feature.float("f2", 2.5), Feature.float("f3", 3.5)]))

    work: dict[str, Callable[[], Any]] = {
        "Features of 3, PSI": lambda: psi.insert(three_made),
        "Features of 3, looked up": lambda: queues["psi"].insert(three_made),
        "Features of 3, made anew": made,
        "Features of 10, PSI": lambda: psi.insert(ten_made),
        "Features of 10, SPC": lambda: spc.insert(ten_made),
        "Metrics of 2": lambda: custom.insert(metrics),
        "EvalRecord of 200 bytes": lambda: genai.insert(record),
    }
    if not is_peer:
        work["dict of 3, PSI"] = lambda: psi.insert(three)
        work["dict of 10, PSI"] = lambda: psi.insert(ten)
    results = {}
    for name, insert in work.items():
        for _ in range(500):
            insert()
        begun = time.thread_time_ns()
        for _ in range(items):
            insert()
        results[name] = (time.thread_time_ns() - begun) / items
    return results


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", help="a Python that has scouter-ml installed")
    parser.add_argument("--out", help=argparse.SUPPRESS)
    parser.add_argument("--contender", choices=["ours", "peer"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        Path(arguments.out).write_text(json.dumps(cases(arguments.items, arguments.contender == "peer")))
        # Nobody waits for what is queued for nowhere.
        os._exit(0)

    pythons = {"ours": sys.executable, **({"peer": arguments.peer} if arguments.peer else {})}
    results: dict[str, dict[str, list[float]]] = {name: {} for name in pythons}
    for _ in range(arguments.rounds):
        for name, python in pythons.items():
            # The peer logs to stdout.
            with tempfile.NamedTemporaryFile("r") as out:
                command = [python, __file__, "--items", str(arguments.items), "--contender", name, "--out", out.name]
                subprocess.run(command, check=True, capture_output=True)
                result = json.load(out)
            for case, value in result.items():
                results[name].setdefault(case, []).append(value)

    print(f"CPU ns an item on the calling thread; {arguments.items} items, {arguments.rounds} rounds")
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs")
    for case, ours in results["ours"].items():
        columns = [f"{statistics.median(ours):8.0f} ({min(ours):.0f} to {max(ours):.0f})"]
        peer = results.get("peer", {}).get(case)
        columns.append(f"{statistics.median(peer):8.0f} ({min(peer):.0f} to {max(peer):.0f})" if peer else "")
        print(f"{case:28} {columns[0]:>28} {columns[1]:>28}")


if __name__ == "__main__":
    main()
