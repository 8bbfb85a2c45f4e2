"""Items go in as Python has them, records come out as the profiles ask for them, and nothing raises after the start."""

from __future__ import annotations

import json
import logging
import math
import threading
import uuid
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pydantic
import pytest

import scouter
from conftest import REPOSITORY, Server
from scouter import EvalRecord, Feature, FeatureMixin, Features, GrpcConfig, Metric, Metrics, ScouterQueue
from scouter.queue import EntityType, convert_to_features

PROFILES = REPOSITORY / "exporter" / "tests" / "fixtures" / "scouter-0.25"


def profile(kind: str, uid: str) -> dict[str, Any]:
    """A profile as Scouter writes it, of an entity of its own."""
    parsed: dict[str, Any] = json.loads((PROFILES / f"profile_{kind}.json").read_text())
    parsed["config"]["uid"] = uid
    return parsed


@pytest.fixture
def uid() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def offline(unreachable: GrpcConfig) -> Iterator[ScouterQueue]:
    """Queues of every kind, without a server: what is inserted is in the account."""
    kinds = ("psi", "psi_categorical", "spc", "custom", "genai")
    queues = ScouterQueue.from_path({kind: PROFILES / f"profile_{kind}.json" for kind in kinds}, unreachable)
    yield queues
    queues.shutdown(0)


def account(queues: ScouterQueue, alias: str) -> dict[str, int]:
    counts: dict[str, int] = queues.stats()["queues"][alias]
    dropped = sum(count for name, count in counts.items() if name.startswith("dropped_"))
    assert counts["inserted"] == counts["published"] + counts["waiting"] + counts["sampled_out"] + counts["dropped"]
    assert counts["dropped"] == dropped
    return counts


def test_every_kind_of_item_is_stored_as_records_of_its_entity(server: Server, uid: str) -> None:
    kinds = ("psi_categorical", "spc", "custom", "genai")
    profiles = {kind: profile(kind, f"{uid}-{kind}") for kind in kinds}
    with ScouterQueue.from_profile(profiles, server.config()) as queues:
        for region in ("us-west-2", "us-west-2", "mars"):
            queues["psi_categorical"].insert(Features([Feature.float("age", 40.0), Feature.categorical("region", region)]))
        queues["spc"].insert({"f1": 1, "f2": np.float32(2.5)})
        queues["custom"].insert(Metrics([Metric("ACC", 0.5), Metric("mae", float("nan"))]))
        record = EvalRecord({"question": "why?"}, id="mine")
        record.add_tag("env", "test")
        queues["genai"].insert(record)
        assert queues.flush(20)
    bins = server.sql(f"SELECT feature, bin_id, bin_count FROM psi_drift WHERE entity_uid = '{uid}-psi_categorical' AND bin_count > 0")
    assert sorted((row["feature"], int(row["bin_count"])) for row in bins) == [("age", 3), ("region", 2)]
    (all_bins,) = server.sql(f"SELECT count(*) AS n FROM psi_drift WHERE entity_uid = '{uid}-psi_categorical'")
    assert int(all_bins["n"]) == 13
    means = server.sql(f"SELECT feature, value FROM spc_drift WHERE entity_uid = '{uid}-spc' ORDER BY feature")
    assert [(row["feature"], row["value"]) for row in means] == [("f1", 1.0), ("f2", 2.5)]
    metrics = server.sql(f"SELECT metric, isnan(value) AS nan FROM custom_drift WHERE entity_uid = '{uid}-custom' ORDER BY metric")
    assert [(row["metric"], row["nan"]) for row in metrics] == [("acc", False), ("mae", True)]
    (stored,) = server.sql(f"SELECT * FROM agent_eval_record WHERE entity_uid = '{uid}-genai'")
    assert (stored["uid"], stored["record_id"], stored["session_id"]) == (record.uid, "mine", record.session_id)


def test_an_evaluation_belongs_to_the_trace_of_the_current_span(server: Server, uid: str) -> None:
    from scouter import tracing

    tracer = tracing.init_tracer(f"queue-{uid}", transport_config=server.config())
    with ScouterQueue.from_profile({"eval": profile("genai", uid)}, server.config()) as queues:
        with tracer.start_as_current_span("answer") as span:
            record = EvalRecord({"a": 1})
            queues["eval"].insert(record)
        trace_id = f"{span.get_span_context().trace_id:032x}"
        assert record.trace_id == trace_id
        assert queues.flush(20)
    (row,) = server.sql(f"SELECT encode(trace_id, 'hex') AS trace FROM agent_eval_record WHERE entity_uid = '{uid}'")
    assert row["trace"] == trace_id


def test_a_record_that_a_span_puts_into_the_queue_is_named_by_the_span(server: Server, uid: str) -> None:
    from scouter import tracing

    with ScouterQueue.from_profile({"eval": profile("genai", uid)}, server.config()) as queues:
        tracer = tracing.init_tracer(f"queue-{uid}", transport_config=server.config(), scouter_queue=queues)
        record = EvalRecord({"a": 1})
        with tracer.start_as_current_span("answer") as span:
            cast(Any, span).add_queue_item("eval", record)
        assert queues.flush(20)
    assert tracing.flush_tracer(20)
    (row,) = server.sql(
        f"SELECT e.uid, s.name, s.events FROM agent_eval_record e JOIN spans s ON s.trace_id = e.trace_id WHERE e.entity_uid = '{uid}'"
    )
    assert (row["uid"], row["name"]) == (record.uid, "answer")
    assert record.uid in json.dumps(row["events"])
    assert '"Agent' in json.dumps(row["events"])


class Model(pydantic.BaseModel):
    f1: float
    f2: int
    f3: float | None = None


@dataclass
class Data:
    f1: float
    f2: int


class Mixed(pydantic.BaseModel, FeatureMixin):
    f1: float
    f2: bool
    f3: int | None
    f4: list[int]


@convert_to_features
@dataclass
class Converted:
    f1: float
    f2: int


Pair = namedtuple("Pair", ["f1", "f2"])

ROWS = [
    Features({"f1": 1.5, "f2": 2}),
    Features([Feature("f1", 1.5), Feature.int("f2", 2)]),
    {"f1": 1.5, "f2": 2},
    {"f1": np.float32(1.5), "f2": np.int64(2)},
    {"f1": np.float64(1.5), "f2": np.bool_(True)},
    {"f1": True, "f2": 10**30},
    Model(f1=1.5, f2=2),
    Data(1.5, 2),
    Mixed(f1=1.5, f2=True, f3=None, f4=[1]),
    Converted(1.5, 2),
    Pair(1.5, 2),
    pd.Series({"f1": 1.5, "f2": 2}),
    pd.DataFrame({"f1": [1.5], "f2": [2]}).iloc[0],
    [Feature.float("f1", 1.5), Feature.float("f2", 2)],
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_a_row_may_come_in_many_shapes(offline: ScouterQueue, row: object) -> None:
    offline["psi"].insert(row)
    counts = account(offline, "psi")
    assert (counts["waiting"], counts["values"], counts["dropped"]) == (1, 2, 0)


def test_values_of_no_use_are_counted_and_leave_their_neighbours_alone(offline: ScouterQueue) -> None:
    class Odd:
        def __float__(self) -> float:
            raise ValueError("no")

    bad = [None, object(), [1], b"1", Odd(), pd.NA, pd.NaT, np.array([1, 2]), 1j, "text", float("nan"), float("inf")]
    offline["psi"].insert({"f1": 1.0, **{f"f{index % 9 + 1}x": None for index in range(3)}})
    for value in bad:
        offline["psi"].insert({"f1": 1.0, "f2": value})
    counts = account(offline, "psi")
    assert counts["waiting"] == len(bad) + 1
    assert counts["values"] == len(bad) + 1
    unread = counts["values_unreadable"] + counts["values_unknown_text"] + counts["values_not_finite"]
    assert (unread, counts["values_not_watched"]) == (len(bad), 3)


def test_items_of_no_use_are_counted_and_told_once(offline: ScouterQueue, caplog: pytest.LogCaptureFixture) -> None:
    class Hostile:
        def __getattribute__(self, name: str) -> object:
            raise RuntimeError(name)

    class Dumps:
        def model_dump(self) -> object:
            raise RuntimeError("no dump")

    items = [None, 1, "text", b"bytes", object(), Hostile(), Dumps(), [1, 2], [None], iter([]), Features, {}, Features({}), {"x": 1}]
    with caplog.at_level(logging.WARNING, logger="scouter"):
        for alias in ("psi", "spc", "custom"):
            for item in items:
                offline[alias].insert(item)
            assert account(offline, alias)["dropped"] == len(items)
        offline["psi"].insert(Metrics({"f1": 1.0}))
        offline["custom"].insert(Features({"acc": 1.0}))
        offline["genai"].insert(Features({"acc": 1.0}))
        for item in items[:6]:
            offline["genai"].insert(item)
    assert account(offline, "psi")["dropped_wrong_kind"] == 1
    assert account(offline, "genai")["dropped"] == 7
    words = [record.getMessage() for record in caplog.records]
    reasons = sorted((message.split("queue `")[1].split("`")[0], message.split("(")[1].split(")")[0]) for message in words)
    assert reasons == [
        *[("custom", reason) for reason in ("nothing_watched", "unreadable", "wrong_kind")],
        *[("genai", reason) for reason in ("unreadable", "wrong_kind")],
        *[("psi", reason) for reason in ("nothing_watched", "unreadable", "wrong_kind")],
        *[("spc", reason) for reason in ("nothing_watched", "unreadable")],
    ]
    assert any("queue `custom` of a Custom profile: it takes Metrics" in message for message in words)


def test_an_item_that_changes_itself_while_it_is_read_is_taken(offline: ScouterQueue) -> None:
    row: dict[str, Any] = {}

    class Changes:
        def __float__(self) -> float:
            row.clear()
            offline["psi"].insert({"f3": 1.0})
            return 1.0

    row.update({"f1": Changes(), "f2": 2.0})
    offline["psi"].insert(row)
    assert account(offline, "psi")["waiting"] == 2


def test_names_of_a_megabyte_and_a_hundred_thousand_features_are_only_slow(offline: ScouterQueue) -> None:
    offline["psi"].insert({"x" * 2**20: 1.0, "f1": 1.0})
    offline["psi"].insert({f"name {index}": 1.0 for index in range(100_000)} | {"f1": 1.0})
    offline["psi"].insert({"\ud800": 1.0, "f1": 1.0, "\x00": 2.0})
    counts = account(offline, "psi")
    assert (counts["waiting"], counts["values_not_watched"]) == (3, 100_003)


def test_threads_insert_at_the_same_time(offline: ScouterQueue) -> None:
    def work() -> None:
        for _ in range(2000):
            offline["psi"].insert({"f1": 1.0})
            offline["spc"].insert(Features({"f1": 1.0}))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert account(offline, "psi")["inserted"] == account(offline, "spc")["inserted"] == 8000


def test_constructors_name_what_they_cannot_use() -> None:
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: Feature("age", None), "feature `age` must be a number or a text, not NoneType"),
        (lambda: Feature.int("age", 1.5), "feature `age` must be a whole number, not float"),
        (lambda: Feature.float("age", "x"), "feature `age` must be a number, not str"),
        (lambda: Features({"age": object()}), "feature `age` must be a number or a text, not object"),
        (lambda: Features(7), "features must be a list of Feature or a dict, not int"),
        (lambda: Features([Metric("a", 1)]), "an element of the list must be a Feature, not Metric"),
        (lambda: Metric("acc", "x"), "metric `acc` must be a number, not str"),
        (lambda: Metrics({"acc": None}), "metric `acc` must be a number, not NoneType"),
        (lambda: Metrics("acc"), "metrics must be a list of Metric or a dict, not str"),
        (lambda: EvalRecord(3), "context must be a dict, a pydantic model or a dataclass, not int"),
    ]
    for make, words in cases:
        with pytest.raises(TypeError) as caught:
            make()
        assert str(caught.value) == words


def test_items_can_be_read_back() -> None:
    features = Features({"a": 1, "b": 1.5, "c": "x"})
    assert [(feature.name, feature.value) for feature in features.features] == [("a", 1), ("b", 1.5), ("c", "x")]
    assert repr(features) == 'Features([Feature(name="a", value=1), Feature(name="b", value=1.5), Feature(name="c", value=\'x\')])'
    metrics = Metrics([Metric("MAE", np.float32(0.5))])
    assert [(metric.name, metric.value) for metric in metrics.metrics] == [("mae", 0.5)]
    assert (features.entity_type, metrics.entity_type) == (EntityType.Feature, EntityType.Metric)
    assert EvalRecord().entity_type == EntityType.Agent == EntityType.GenAI
    assert [feature.name for feature in Mixed(f1=1, f2=True, f3=3, f4=[]).to_features().features] == ["f1", "f2", "f3"]


def test_an_evaluation_has_the_fields_that_scouter_gives_it() -> None:
    record = EvalRecord({"a": 1}, id="rid", trace_id="0af7651916cd43dd8448eb211c80319c")
    record.add_tag("env", 'pr"od')
    record.update_context_field("b", {"c": [1, None]})
    assert record.context == {"a": 1, "b": {"c": [1, None]}}
    assert uuid.UUID(record.uid).version == uuid.UUID(record.session_id).version == 7
    assert record.created_at.tzinfo is not None
    dumped = json.loads(record.model_dump_json())
    assert list(dumped) == [
        "record_id",
        "session_id",
        "created_at",
        "uid",
        "context",
        "id",
        "updated_at",
        "processing_started_at",
        "processing_ended_at",
        "processing_duration",
        "entity_id",
        "entity_uid",
        "status",
        "entity_type",
        "retry_count",
        "trace_id",
        "tags",
    ]
    assert (dumped["record_id"], dumped["context"], dumped["tags"]) == ("rid", record.context, ['env=pr"od'])
    assert dumped["created_at"].startswith(record.created_at.isoformat()[:19])
    record.session_id, record.record_id = "session", "other"
    assert (record.session_id, record.record_id) == ("session", "other")
    assert EvalRecord({}, trace_id="not one").trace_id is None
    record.trace_id = "0" * 32
    assert record.trace_id is None


def test_any_context_becomes_json() -> None:
    import datetime as dt
    import decimal

    class Colour(Enum):
        RED = "red"

    context = {
        "nan": math.nan,
        "big": 10**30,
        "float": 1e300,
        "text": 'quote " and \\ and \n and \x01 and é',
        "array": np.arange(3),
        "scalar": np.float32(0.5),
        "model": Model(f1=1, f2=2),
        "data": Data(1.0, 2),
        "enum": Colour.RED,
        "when": dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc),
        "price": decimal.Decimal("1.50"),
        "set": {1},
        "tuple": (1, 2),
        3: True,
        "frame": pd.DataFrame({"x": [1]}),
    }
    assert EvalRecord(context).context == {
        "nan": None,
        "big": 10**30,
        "float": 1e300,
        "text": context["text"],
        "array": [0, 1, 2],
        "scalar": 0.5,
        "model": {"f1": 1.0, "f2": 2, "f3": None},
        "data": {"f1": 1.0, "f2": 2},
        "enum": "red",
        "when": "2026-01-02T00:00:00+00:00",
        "price": "1.50",
        "set": [1],
        "tuple": [1, 2],
        "3": True,
        "frame": {"x": {"0": 1}},
    }
    cyclic: dict[str, Any] = {}
    cyclic["self"] = cyclic
    with pytest.raises(TypeError, match="holds itself"):
        EvalRecord(cyclic)


def test_a_capture_keeps_evaluations_and_sends_them_all_the_same(offline: ScouterQueue) -> None:
    offline.enable_capture()
    record = EvalRecord({"a": 1})
    offline["genai"].insert(record)
    offline["genai"].insert({"a": 2})
    offline["psi"].insert({"f1": 1.0})
    drained = offline.drain_all_records()
    assert list(drained) == ["genai"]
    assert (drained["genai"][0] is record, drained["genai"][1].context) == (True, {"a": 2})
    offline.disable_capture()
    offline["genai"].insert(record)
    assert offline.drain_records("genai") == []
    assert account(offline, "genai")["published"] == 3
    assert list(offline.agent_profiles()) == ["genai"]


def test_a_sample_ratio_leaves_evaluations_out(offline: ScouterQueue) -> None:
    offline._set_sample_ratio(0.0)
    offline["genai"].insert({"a": 1})
    assert account(offline, "genai")["sampled_out"] == 1


def test_profiles_come_as_objects_dicts_lists_and_json(unreachable: GrpcConfig) -> None:
    text = (PROFILES / "profile_custom.json").read_text()

    class Profile:
        alias = "mine"

        def model_dump_json(self) -> str:
            return text

    for given, alias in [
        (Profile(), "mine"),
        ([Profile()], "mine"),
        ({"given": Profile()}, "given"),
        (json.loads(text), "custom"),
        (text, "custom"),
        ([json.loads(text)], "custom"),
    ]:
        queues = ScouterQueue.from_profile(given, unreachable)
        assert queues[alias].identifier == "cap/custom/v0.1.0/custom"
        assert queues[alias].entity_uid == "01a20603-d2cf-72c2-9968-efcd645911c6"
        assert not queues.is_empty()
        queues.shutdown(0)
    with pytest.raises(scouter.ConfigError, match="two profiles have the alias 'custom'"):
        ScouterQueue.from_profile([text, text], unreachable)


def test_what_cannot_be_used_at_the_start_is_named(unreachable: GrpcConfig, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"config": {"uid": "u", "drift_type": "Psi"}}')
    with pytest.raises(scouter.ConfigError) as caught:
        ScouterQueue.from_path({"one": tmp_path / "none.json", "two": broken}, unreachable)
    words = str(caught.value)
    assert f"queue `one`: cannot read the profile `{tmp_path / 'none.json'}`" in words
    assert f"queue `two`: the profile `{broken}`: `features` must be an object, not missing" in words
    with pytest.raises(scouter.ConfigError, match=r"must be a scouter\.transport\.GrpcConfig or another one of .*, not str"):
        ScouterQueue.from_path({}, cast(GrpcConfig, "http://localhost"))
    with pytest.raises(scouter.ConfigError, match=r"model_dump_json\(\), a dict or JSON, not int"):
        ScouterQueue.from_profile(7, unreachable)
    assert ScouterQueue.from_path({}, unreachable).is_empty()


def test_a_queue_that_is_not_there_is_a_key_error_that_names_those_which_are(offline: ScouterQueue) -> None:
    with pytest.raises(KeyError) as caught:
        offline["none"]
    assert isinstance(caught.value, RuntimeError)
    assert str(caught.value) == "there is no queue 'none'; there are ['custom', 'genai', 'psi', 'psi_categorical', 'spc']"


def test_after_shutdown_items_are_counted_and_nothing_raises(server: Server, uid: str, caplog: pytest.LogCaptureFixture) -> None:
    queues = ScouterQueue.from_profile({"custom": profile("custom", uid)}, server.config())
    queues["custom"].insert({"acc": 1.0})
    report = queues.shutdown(20)
    assert (report.delivered, report.undelivered) == (1, 0)
    queues["custom"].insert({"acc": 1.0})
    assert account(queues, "custom")["dropped_shutdown"] == 1
    assert not queues.flush(0)
    assert queues.shutdown().undelivered == 0
    assert not caplog.records


def test_what_a_shutdown_cannot_deliver_is_reported_and_logged(unreachable: GrpcConfig, caplog: pytest.LogCaptureFixture) -> None:
    queues = ScouterQueue.from_path({"custom": PROFILES / "profile_custom.json"}, unreachable)
    queues["custom"].insert({"acc": 1.0})
    assert not queues.flush(0.05)
    report = queues.shutdown(0.2)
    assert (report.delivered, report.undelivered) == (0, 1)
    assert "monitoring records not delivered: 1; last error: " in caplog.text


def test_json_is_sent_when_the_configuration_says_so(server: Server, uid: str) -> None:
    profiles = {kind: profile(kind, f"{uid}-{kind}") for kind in ("custom", "genai")}
    config = server.config(payload="json")
    assert config.payload == "json"
    with ScouterQueue.from_profile(profiles, config) as queues:
        queues["custom"].insert({"acc": 0.5})
        queues["genai"].insert({"a": [1, "é"]})
        assert queues.flush(20), queues.stats()
    (metric,) = server.sql(f"SELECT metric, value FROM custom_drift WHERE entity_uid = '{uid}-custom'")
    assert (metric["metric"], metric["value"]) == ("acc", 0.5)
    (row,) = server.sql(f"SELECT count(*) AS n FROM agent_eval_record WHERE entity_uid = '{uid}-genai'")
    assert int(row["n"]) == 1


def test_the_example_of_the_specification_runs_as_written(server: Server, run_python: Any) -> None:
    path = REPOSITORY / "examples" / "python" / "record_queue.py"
    program = path.read_text().replace("Path(__file__)", f"Path({str(path)!r})")
    done = run_python(program, {"SCOUTER_GRPC_URI": server.grpc_uri})
    assert (done.returncode, done.stdout, done.stderr) == (0, "delivered 22 records, 0 not delivered\n", "")
    uid = json.loads((REPOSITORY / "examples" / "queue" / "profile.json").read_text())["config"]["uid"]
    rows = server.sql(f"SELECT feature, bin_id FROM psi_drift WHERE entity_uid = '{uid}' AND bin_count = 1 ORDER BY feature")
    assert [(row["feature"], int(row["bin_id"])) for row in rows] == [("region", 1), ("requests", 10), ("temperature", 8)]


HEAD = """
import os, sys, json, multiprocessing
from scouter import ScouterQueue
queues = ScouterQueue.from_profile({"custom": json.loads(os.environ["PROFILE"])})
queue = queues["custom"]
"""


def stored(server: Server, uid: str) -> list[float]:
    return [row["value"] for row in server.sql(f"SELECT value FROM custom_drift WHERE entity_uid = '{uid}' ORDER BY value")]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ('queue.insert({"acc": 1.0})', [1.0]),
        (
            """
queue.insert({"acc": 1.0})
child = os.fork()
queue.insert({"acc": 3.0 if child else 10.0})
if child:
    assert os.waitpid(child, 0)[1] == 0
""",
            [2.0, 10.0],
        ),
        (
            """
def work(n):
    queue.insert({"acc": float(n)})
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work, args=(n,)) for n in range(3)]
    for child in children: child.start()
    for child in children:
        child.join(30)
        assert child.exitcode == 0, child.exitcode
""",
            [0.0, 1.0, 2.0],
        ),
    ],
    ids=["exit", "os.fork", "multiprocessing"],
)
def test_the_end_of_a_process_and_of_its_children_delivers(
    run_python: Any, server: Server, uid: str, program: str, expected: list[float]
) -> None:
    environment = {"SCOUTER_GRPC_URI": server.grpc_uri, "PROFILE": json.dumps(profile("custom", uid))}
    done = run_python(HEAD + program, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert stored(server, uid) == expected
