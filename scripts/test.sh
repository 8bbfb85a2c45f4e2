#!/usr/bin/env bash
# Every check and every test, in the order in which they fail fastest. CI runs this and nothing else.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

step_number=0
step_name=""
step_start=0
total_steps=14

step() {
  step_end
  step_number=$((step_number + 1))
  step_name="$1"
  step_start=$SECONDS
  say
  say "=== [$step_number/$total_steps] $step_name"
}
step_end() {
  [ -z "$step_name" ] || say "=== [$step_number/$total_steps] $step_name: passed in $((SECONDS - step_start)) s"
}
trap 'code=$?; [ "$code" = 0 ] || say "
=== FAILED in step $step_number/$total_steps, $step_name, after $SECONDS s"' EXIT

step "tools"
check_tools
check_postgres
check_brokers
cargo --version
python3 --version
say "build folder: $CARGO_TARGET_DIR"

step "format (cargo fmt --check)"
cargo fmt --all --check || fail "run 'cargo fmt --all'"

step "lint (cargo clippy, warnings are errors)"
# Metadata only: DataFusion is checked here, not compiled.
cargo clippy --locked --workspace --all-targets --quiet -- -D warnings

step "the page: types, lint, unit tests, and built files that are those of its source"
page_packages
(
  cd server-ingest/web
  npm run --silent check
  npm run --silent test
  fresh="$(mktemp -d)"
  npx vite build --logLevel warn --outDir "$fresh" --emptyOutDir
  diff -r dist "$fresh" || fail "the built page is not that of its source; run 'npm run build' in server-ingest/web and commit dist"
  rm -r "$fresh"
)

step "the parts of scouter-tonic, each alone, and the exporter without a server"
for feature in client server all; do
  say "cargo check -p scouter-tonic --features $feature"
  cargo check --locked --quiet -p scouter-tonic --no-default-features --features "$feature"
done
say "cargo check -p scouter-exporter"
cargo check --locked --quiet -p scouter-exporter --all-features

step "documentation (cargo doc, warnings are errors)"
# Module documents speak to contributors too, so they may name what is private.
RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --quiet

step "build (cargo build --release; the first time compiles DataFusion: some 20 minutes on two cores)"
# The same profile and the same features as `make demo` and the tests below, so that nothing large is compiled twice.
cargo build --locked --release --workspace --bins
export SCOUTER_SERVER_BIN="$CARGO_TARGET_DIR/release/scouter-server"

step "Rust tests, the end-to-end tests among them (cargo test --release)"
cargo test --locked --release --workspace
# A feature of the exporter that the workspace does not turn on.
cargo test --locked --release -p scouter-exporter --features self-metrics --test self_metrics

step "the page in a browser (Chromium)"
[ -x "${CHROMIUM:-/usr/bin/chromium}" ] || install_or_fail chromium \
  "there is no /usr/bin/chromium. Install it ('apt-get install chromium' on Debian), or say where one is: CHROMIUM=/path/to/chromium"
(cd server-ingest/web && npm run --silent test:browser)

step "Python package: build, lint, types, stubs"
python_environment test scripts/requirements.txt scripts/requirements-test.txt examples/python/requirements.txt
python_package
(
  cd python-bindings
  "$PYTHON" -m ruff check .
  "$PYTHON" -m ruff format --check .
  "$PYTHON" -m mypy
  "$PYTHON" -m pyright --pythonpath "$PYTHON"
  "$PYTHON" -m mypy.stubtest scouter --mypy-config-file pyproject.toml
)
"$PYTHON" -m ruff check --config examples/python/ruff.toml examples/python examples/interop/python
"$PYTHON" -m ruff format --check --config examples/python/ruff.toml examples/python examples/interop/python
"$PYTHON" -m mypy --strict examples/python
"$PYTHON" -m mypy --strict examples/interop/python

step "Python tests (pytest)"
(cd python-bindings && "$PYTHON" -m pytest)
"$(dirname "$PYTHON")/kubernetes-validate" --strict server-ingest/deploy/kubernetes.yaml

step "OpenTelemetry's SDKs for Python, JavaScript, Go and Java, and its Collector, as clients"
bash scripts/interop.sh

step "other people's tests on our Python tracer"
(
  python_environment conformance python-bindings/conformance/requirements.txt
  "$PYTHON" -m pip install --quiet --force-reinstall --no-deps "$CARGO_TARGET_DIR"/python/wheels/*.whl
  "$PYTHON" python-bindings/conformance/run.py --work "$CARGO_TARGET_DIR/python/conformance"
)

step "the demo"
bash scripts/demo.sh

step_end
say
say "all $total_steps steps passed in $SECONDS s"
