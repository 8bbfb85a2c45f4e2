"""What the layout of span attributes costs in engines that are not ours: bytes a span, and the CPU time of questions.

    python -m venv venv && venv/bin/pip install pyarrow numpy duckdb datafusion pyspark
    venv/bin/python server-ingest/storage/benches/attribute_layout.py [spans] [rounds] [engine]

pyspark needs Java 17; an engine that is not installed is left out. The same spans (nine attributes, as in the other benchmarks)
are written once a layout, in one row group size, zstd level 1:

- json    canonical JSON text, what the tables have (docs/storage-columns.md)
- list    list<struct<key, type, str, int, double, bool, bytes>>, typed without parsing
- map     map<string, string>, values as JSON text
- bytes   the attributes as the protobuf bytes that came in

Every question is asked in one thread, `rounds` times, and the least CPU time of the process (for Spark: of the Java process) counts.
Each engine's answer is compared with what was generated, so a wrong question cannot look fast.
"""

import json
import os
import struct
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SPANS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
ENGINE = sys.argv[3] if len(sys.argv) > 3 else ""
CODES, KEYS = [200, 200, 200, 404, 500], 9
MEMBERS = {"key": pa.string(), "type": pa.int8(), "str": pa.string(), "int": pa.int64(), "double": pa.float64(), "bool": pa.bool_(),
           "bytes": pa.binary()}
# A rare tenant, all server errors, and tokens a region for a rare tenant.
TENANT, QUESTIONS = "t-077", ["string equals", "number at least", "filter, group by"]


def key_value(key, value):
    """One KeyValue of OTLP as protobuf, with its tag."""
    def field(number, content):
        head, length = bytes([number << 3 | 2]), len(content)
        return head + (bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])) + content
    def varint(number):
        out = bytearray()
        while number > 127:
            out.append(number & 127 | 128)
            number >>= 7
        return bytes(out) + bytes([number])
    def any_value(value):
        if isinstance(value, bool):
            return b"\x10" + bytes([value])
        if isinstance(value, int):
            return b"\x18" + varint(value)
        if isinstance(value, float):
            return b"\x21" + struct.pack("<d", value)
        if isinstance(value, list):
            return field(5, b"".join(field(1, any_value(item)) for item in value))
        return field(1, value.encode())
    return field(9, field(1, key.encode()) + field(2, any_value(value)))


def generate():
    """Rows of attributes, in the order of a sorted file."""
    random = np.random.default_rng(4)
    columns = [random.integers(0, high, SPANS).tolist() for high in (5, 10_000, 200, 8, 4000, 1000, 2)]
    for code, path, tenant, region, tokens, score, hit in zip(*columns):
        yield {"http.request.method": "GET", "http.response.status_code": CODES[code], "url.path": f"/items/{path}",
               "app.tenant": f"t-{tenant:03}", "app.region": f"region-{region}", "app.tokens": tokens, "score": score / 7.0,
               "cache.hit": bool(hit), "labels": ["a", "ü"]}


def write(folder):
    """The files, the right answers, and a table of sizes."""
    text = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    jsons, raws, maps, keys, types = [], [], [], [], []
    typed = {"str": [], "int": [], "double": [], "bool": []}
    right = [0, 0, {}]
    for row in generate():
        jsons.append(text(row))
        raws.append(b"".join(key_value(key, value) for key, value in row.items()))
        maps.append([(key, value if isinstance(value, str) else text(value)) for key, value in row.items()])
        for key, value in row.items():
            kind = {str: "str", bool: "bool", int: "int", float: "double", list: "str"}[type(value)]
            keys.append(key)
            types.append(list(typed).index(kind) + (4 if isinstance(value, list) else 0))
            for name, values in typed.items():
                values.append((text(value) if isinstance(value, list) else value) if name == kind else None)
        if row["app.tenant"] == TENANT:
            right[0] += 1
            right[2][row["app.region"]] = right[2].get(row["app.region"], 0) + row["app.tokens"]
        right[1] += row["http.response.status_code"] >= 500
    members = [pa.array(keys), pa.array(types, pa.int8()), pa.array(typed["str"]), pa.array(typed["int"], pa.int64()),
               pa.array(typed["double"]), pa.array(typed["bool"]), pa.nulls(len(keys), pa.binary())]
    offsets = pa.array(np.arange(0, SPANS * KEYS + 1, KEYS, dtype=np.int32))
    structs = pa.StructArray.from_arrays(members, fields=[pa.field(name, kind) for name, kind in MEMBERS.items()])
    layouts = {"json": pa.array(jsons), "list": pa.ListArray.from_arrays(offsets, structs),
               "map": pa.array(maps, pa.map_(pa.string(), pa.string())), "bytes": pa.array(raws)}
    print(f"{SPANS} spans, zstd 1\n\n| layout | bytes a span | pyarrow's CPU to write, ns a span |\n| --- | --- | --- |")
    for layout, attributes in layouts.items():
        path, spent = os.path.join(folder, f"{layout}.parquet"), []
        for _ in range(ROUNDS):
            before = time.process_time()
            pq.write_table(pa.table({"attributes": attributes}), path, compression="zstd", compression_level=1, row_group_size=131_072)
            spent.append(time.process_time() - before)
        print(f"| {layout} | {os.path.getsize(path) / SPANS:.1f} | {min(spent) / SPANS * 1e9:.0f} |", flush=True)
    return [right[0], right[1], sorted(right[2].items())]


def group(value, number, where, table="t"):
    """The third question, from expressions for a region, tokens and the filter."""
    return f"SELECT {value} AS region, sum({number}) FROM {table} WHERE {where} GROUP BY 1 ORDER BY 1"


def count(where):
    return f"SELECT count(*) FROM t WHERE {where}"


# For JSON: a substring first, which is right alone for a string whose writer is canonical and whose key cannot stand in a value.
JSON_TENANT = f"""attributes LIKE '%"app.tenant":"{TENANT}"%'"""


def datafusion_questions():
    """DataFusion has no JSON function built in: capture groups of a regular expression, with the substring in front."""
    number = lambda key: f"""CAST(regexp_match(attributes, '"{key}":(-?[0-9]+)')[1] AS bigint)"""
    region = """regexp_match(attributes, '"app.region":"([^"]*)"')[1]"""
    # Lists are taken apart with unnest and a row number, as there is no way to look into one with an equation.
    rows = "SELECT n, unnest(attributes) a FROM (SELECT row_number() OVER () n, attributes FROM t)"
    flat = f"SELECT n, a['key'] k, a['str'] s, a['int'] i FROM ({rows})"
    tenant, code = f"k = 'app.tenant' AND s = '{TENANT}'", "k = 'http.response.status_code' AND i >= 500"
    return {
        "json": [count(JSON_TENANT), count(f"{number('http.response.status_code')} >= 500"), group(region, number("app.tokens"), JSON_TENANT)],
        "list": [f"SELECT count(*) FROM ({flat}) WHERE {tenant}", f"SELECT count(*) FROM ({flat}) WHERE {code}",
                 f"SELECT r, sum(i) FROM (SELECT max(CASE WHEN k = 'app.region' THEN s END) r, max(CASE WHEN k = 'app.tokens' THEN i END) i, "
                 f"bool_or({tenant}) hit FROM ({flat}) GROUP BY n) WHERE hit GROUP BY r ORDER BY r"],
        "map": [count(f"attributes['app.tenant'] = '{TENANT}'"), count("CAST(attributes['http.response.status_code'] AS bigint) >= 500"),
                group("attributes['app.region']", "CAST(attributes['app.tokens'] AS bigint)", f"attributes['app.tenant'] = '{TENANT}'")],
    }


def duckdb_questions():
    get = lambda key: f"""json_extract_string(attributes, '$."{key}"')"""
    element = lambda key, member: f"list_filter(attributes, lambda a: a.key = '{key}')[1].{member}"
    return {
        "json": [count(JSON_TENANT), count(f"CAST({get('http.response.status_code')} AS bigint) >= 500"),
                 group(get("app.region"), f"CAST({get('app.tokens')} AS bigint)", JSON_TENANT)],
        "list": [count(f"{element('app.tenant', 'str')} = '{TENANT}'"), count(f"""{element('http.response.status_code', '"int"')} >= 500"""),
                 group(element("app.region", "str"), element("app.tokens", '"int"'), f"{element('app.tenant', 'str')} = '{TENANT}'")],
        "map": [count(f"attributes['app.tenant'] = '{TENANT}'"), count("CAST(attributes['http.response.status_code'] AS bigint) >= 500"),
                group("attributes['app.region']", "CAST(attributes['app.tokens'] AS bigint)", f"attributes['app.tenant'] = '{TENANT}'")],
    }


def spark_questions():
    get = lambda key: f"""get_json_object(attributes, "$['{key}']")"""
    element = lambda key, member: f"filter(attributes, a -> a.key = '{key}')[0].{member}"
    tenant = f"exists(attributes, a -> a.key = 'app.tenant' AND a.str = '{TENANT}')"
    wire = key_value("app.tenant", TENANT).hex()
    return {
        "json": [count(JSON_TENANT), count(f"CAST({get('http.response.status_code')} AS bigint) >= 500"),
                 group(get("app.region"), f"CAST({get('app.tokens')} AS bigint)", JSON_TENANT)],
        "list": [count(tenant), count("exists(attributes, a -> a.key = 'http.response.status_code' AND a.int >= 500)"),
                 group(element("app.region", "str"), element("app.tokens", "int"), tenant)],
        "map": [count(f"attributes['app.tenant'] = '{TENANT}'"), count("CAST(attributes['http.response.status_code'] AS bigint) >= 500"),
                group("attributes['app.region']", "CAST(attributes['app.tokens'] AS bigint)", f"attributes['app.tenant'] = '{TENANT}'")],
        # The one thing an engine can do with bytes: look for an attribute whose encoding is known whole.
        "bytes": [count(f"contains(attributes, X'{wire}')"), None, None],
    }


def own_cpu():
    return time.process_time()


def open_datafusion(folder):
    from datafusion import SessionConfig, SessionContext
    def session(layout):
        context = SessionContext(SessionConfig().with_target_partitions(1))
        context.register_parquet("t", os.path.join(folder, f"{layout}.parquet"))
        return lambda sql: [tuple(row.values()) for row in context.sql(sql).to_arrow_table().to_pylist()]
    return session, datafusion_questions(), own_cpu


def open_duckdb(folder):
    import duckdb
    def session(layout):
        connection = duckdb.connect(config={"threads": 1})
        connection.sql(f"CREATE VIEW t AS FROM '{folder}/{layout}.parquet'")
        return lambda sql: connection.sql(sql).fetchall()
    return session, duckdb_questions(), own_cpu


def open_spark(folder):
    from pyspark.sql import SparkSession
    builder = SparkSession.builder.master("local[1]")
    for key, value in {"ui.enabled": "false", "ui.showConsoleProgress": "false", "sql.shuffle.partitions": "1", "driver.memory": "3g"}.items():
        builder = builder.config(f"spark.{key}", value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    process = spark._jvm.java.lang.ProcessHandle.current().pid()
    def cpu():
        with open(f"/proc/{process}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    def session(layout):
        spark.read.parquet(f"{folder}/{layout}.parquet").createOrReplaceTempView("t")
        return lambda sql: [tuple(row) for row in spark.sql(sql).collect()]
    return session, spark_questions(), cpu


def measure(name, opened, right):
    session, questions, cpu = opened
    for layout, asked in questions.items():
        ask, cells = session(layout), []
        for sql, expected in zip(asked, right):
            if sql is None:
                cells.append("cannot")
                continue
            spent = []
            for _ in range(ROUNDS):
                before = cpu()
                rows = ask(sql)
                spent.append(cpu() - before)
            answer = rows[0][0] if len(rows[0]) == 1 else [(region, int(tokens)) for region, tokens in rows]
            if answer != expected:
                sys.exit(f"{name}, {layout}: {sql} answered {answer}, expected {expected}")
            cells.append(f"{min(spent) * 1e3:.0f}")
        print(f"| {name} | {layout} | {' | '.join(cells)} |", flush=True)


def main():
    with tempfile.TemporaryDirectory() as folder:
        right = write(folder)
        print(f"\nCPU ms, least of {ROUNDS}\n\n| engine | layout | {' | '.join(QUESTIONS)} |\n| --- | --- |{' --- |' * len(QUESTIONS)}")
        engines = ("DataFusion", "datafusion", open_datafusion), ("DuckDB", "duckdb", open_duckdb), ("Spark", "pyspark", open_spark)
        for name, module, opens in engines:
            if ENGINE not in name:
                continue
            try:
                version = __import__(module).__version__
            except ImportError:
                print(f"| {name} | not installed |" + " |" * len(QUESTIONS))
                continue
            measure(f"{name} {version}", opens(folder), right)


if __name__ == "__main__":
    main()
