#!/usr/bin/env bash
# Three services, one trace: starts a server with a fresh folder, runs the services against it, prints the trace they made. On a terminal, or with
# KEEP=1, the server then stays for its page until somebody ends it; KEEP=0 ends it at once.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

pids=()
stop_all() {
  for pid in "${pids[@]:-}"; do [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]:-}"; do [ -z "$pid" ] || wait "$pid" 2>/dev/null || true; done
  pids=()
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

check_tools

say "[1/5] building the server and the examples (the first time compiles DataFusion: some 20 minutes on two cores)"
# The whole workspace's programs in one go: cargo unites the features of what it builds together, so this is the build that the tests use too,
# and nothing large is compiled twice.
cargo build --release --locked --workspace --bins --quiet || fail "the build failed; see the lines above"
bin="$CARGO_TARGET_DIR/release"

say "[2/5] building the Python package"
python_environment demo examples/python/requirements.txt scripts/requirements.txt
python_package

folder="$(mktemp -d "${TMPDIR:-/tmp}/scouter-demo.XXXXXX")"
storage="$folder/storage"
say "[3/5] starting the server on free ports; its data goes to $storage"
"$bin/scouter-server" serve --storage "$storage" --grpc-addr 127.0.0.1:0 --http-addr 127.0.0.1:0 --otlp-grpc-addr 127.0.0.1:0 \
  --otlp-http-addr 127.0.0.1:0 >"$folder/server.out" 2>"$folder/server.log" &
server=$!
pids+=("$server")
wait_listening "$server" "$folder/server.out" "the server" "$folder/server.log"
export SCOUTER_GRPC_URI="http://$(address "$folder/server.out" grpc)"
unset SCOUTER_USERNAME SCOUTER_PASSWORD

say "[4/5] starting gateway (FastAPI), answerer (FastAPI) and scorer (Rust)"
# Spans leave half a second after they end at the latest, in Rust too, so that nobody waits for them.
export OTEL_BSP_SCHEDULE_DELAY=500
# The instrumentations use the old names of HTTP attributes unless they are asked for the stable ones.
export OTEL_SEMCONV_STABILITY_OPT_IN=http
read -r gateway_port answerer_port <<<"$("$PYTHON" examples/python/free_ports.py 2)"
services=()
SCORER_ADDR=127.0.0.1:0 "$bin/scorer" >"$folder/scorer.out" 2>"$folder/scorer.log" &
services+=("$!")
pids+=("$!")
wait_listening "$!" "$folder/scorer.out" "scorer" "$folder/scorer.log"
ANSWERER_PORT="$answerer_port" "$PYTHON" examples/python/answerer.py >"$folder/answerer.log" 2>&1 &
services+=("$!")
pids+=("$!")
GATEWAY_PORT="$gateway_port" ANSWERER_URL="http://127.0.0.1:$answerer_port" SCORER_URL="http://$(address "$folder/scorer.out" http)" \
  "$PYTHON" examples/python/gateway.py >"$folder/gateway.log" 2>&1 &
services+=("$!")
pids+=("$!")

say "[5/5] asking three questions, and waiting until the trace of the last one can be queried"
say
trace_id="$("$PYTHON" examples/python/ask.py --gateway "http://127.0.0.1:$gateway_port" --answerer "http://127.0.0.1:$answerer_port" \
  --server "http://$(address "$folder/server.out" http)")" ||
  fail "the demo did not get its trace; the logs of server and services are in $folder"

say
say "trace $trace_id"
say
"$bin/scouter-server" trace --storage "$storage" "$trace_id" 2>/dev/null || fail "the trace could not be printed; the server's log is $folder/server.log"

# A service that is told to end delivers what it has; a server that is told to end writes its tables.
# 143 is an end by SIGTERM: uvicorn shuts down in good order first and then ends by the signal that it was given.
end_process() {
  local code=0
  kill -TERM "$1"
  wait "$1" || code=$?
  [ "$code" = 0 ] || [ "$code" = 143 ] || fail "process $1 ended with code $code; the logs are in $folder"
}
for pid in "${services[@]}"; do end_process "$pid"; done
pids=("$server")

is_terminal=0
[ -t 0 ] && [ -t 1 ] && is_terminal=1
if [ "${KEEP:-$is_terminal}" = 1 ]; then
  page="http://$(address "$folder/server.out" http)"
  cat <<END

The services have stopped; the server goes on. Open its page in a browser (the login is filled in):

    $page

END
  if [ "$is_terminal" = 1 ]; then
    read -r -p "Enter ends the server. " || true
  else
    say "SIGTERM or SIGINT to process $$ ends the server."
    wait "$server" || true
    fail "the server ended by itself; its log is $folder/server.log"
  fi
fi
end_process "$server"
pids=()

cat <<END

Server and services have stopped. What they left is a folder with open tables; where to look next:

  The page, with the server running again (KEEP=1 makes the demo's server stay):
    $bin/scouter-server serve --storage $storage
    http://127.0.0.1:8000/trace/$trace_id

  SQL, on the folder itself:
    $bin/scouter-server sql --storage $storage \\
      "SELECT service_name, name, duration_nano / 1000 AS micros, status_code FROM spans ORDER BY start_unix_nano"

  Python, without our code (pip install deltalake pyarrow):
    from deltalake import DeltaTable
    print(DeltaTable("$storage/tables/spans").to_pyarrow_table().to_pylist()[0])

  HTTP, with the server running again:
    TOKEN=\$(curl -s -H 'Username: guest' -H 'Password: guest' http://127.0.0.1:8000/scouter/auth/login | cut -d'"' -f4)
    curl -s -H "Authorization: Bearer \$TOKEN" 'http://127.0.0.1:8000/scouter/trace/spans?trace_id=$trace_id'
END
