#!/usr/bin/env bash
# OpenTelemetry's SDKs and a Collector as clients of the real server: builds the clients of examples/interop and runs the tests that use them.
#
# A client whose toolchain is neither here nor to be had from Debian is skipped, and said to be; in CI (CI=true) that is a failure.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

clients="$root/examples/interop"
export SCOUTER_INTEROP="$CARGO_TARGET_DIR/interop"
export SCOUTER_INTEROP_CLIENTS="python"

# Whether a tool is there and at least of a version. usage: has TOOL VERSION-COMMAND LEAST
has() {
  command -v "$1" >/dev/null || return 1
  local version
  version="$(eval "$2" 2>/dev/null | grep -oE '[0-9]+(\.[0-9]+)*' | head -n 1)"
  [ "$(printf '%s\n' "$3" "$version" | sort -V | head -n 1)" = "$3" ]
}

# Whether a tool is there, after Debian was asked for it if need be. usage: wants CLIENT TOOL VERSION-COMMAND LEAST PACKAGE
wants() {
  has "$2" "$3" "$4" && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing $5 with apt-get"
    { apt-get update -qq && apt-get install -y -qq "$5"; } >/dev/null 2>&1 || true
    hash -r
    has "$2" "$3" "$4" && return
  fi
  say "SKIPPED: the client $1 is not tested: it needs $2 $4 or newer (Debian: $5), which is not on this machine"
  [ "${CI:-}" != true ] || fail "in CI every client is tested"
  return 1
}

# A copy of a client's sources, so that nothing is built inside the checkout. What was built from the same sources stays.
# usage: copy CLIENT; true when something is to be built
copy() {
  local to="$SCOUTER_INTEROP/$1" sum
  sum="$(cd "$clients/$1" && find . -type f | LC_ALL=C sort | xargs cat | cksum)"
  [ "$(cat "$to/.built" 2>/dev/null)" != "$sum" ] || return 1
  say "building the client $1"
  rm -rf "$to"
  mkdir -p "$SCOUTER_INTEROP"
  cp -R "$clients/$1" "$to"
  built="$sum"
}
done_with() { printf '%s' "$built" >"$SCOUTER_INTEROP/$1/.built"; }
add() { SCOUTER_INTEROP_CLIENTS+=" $1"; }

if wants javascript node 'node --version' 18.19 nodejs && wants javascript npm 'npm --version' 9 npm; then
  if copy javascript; then
    (cd "$SCOUTER_INTEROP/javascript" && npm ci --silent --ignore-scripts --no-audit --no-fund) || fail "npm could not install the client's packages"
    done_with javascript
  fi
  add javascript
fi
if wants java javac 'javac -version' 17 default-jdk-headless && wants java mvn 'mvn --version | grep -o "Maven [0-9.]*"' 3.6 maven; then
  if copy java; then
    (cd "$SCOUTER_INTEROP/java" && mvn --quiet --batch-mode process-classes) || fail "Maven could not build the client"
    done_with java
  fi
  add java
fi
if wants go go 'go env GOVERSION' 1.25 golang-go; then
  if copy go; then
    (cd "$SCOUTER_INTEROP/go" && go build -trimpath -o client .) || fail "Go could not build the client"
    done_with go
  fi
  if copy jaeger; then
    (cd "$SCOUTER_INTEROP/jaeger" && go build -trimpath -o reader .) || fail "Go could not build the reader of Jaeger's answers"
    done_with jaeger
  fi
  if copy collector; then
    say "(the Collector's first build compiles some 200 modules: a few minutes)"
    (cd "$SCOUTER_INTEROP/collector" && go build -trimpath -ldflags='-s -w' -o collector .) || fail "Go could not build the Collector"
    done_with collector
  fi
  add go
  add jaeger
  add collector
fi

[ -n "${PYTHON:-}" ] || python_environment test scripts/requirements.txt scripts/requirements-test.txt examples/python/requirements.txt
# The Collector's tests put a Kafka before it and behind it.
check_brokers
export SCOUTER_SERVER_BIN="${SCOUTER_SERVER_BIN:-$CARGO_TARGET_DIR/release/scouter-server}"
say "clients: $SCOUTER_INTEROP_CLIENTS"
# The whole workspace, so that what is built has the features of every other test.
cargo test --locked --release --workspace --test end_to_end -- --ignored interop
