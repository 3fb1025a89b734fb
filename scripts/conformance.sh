#!/bin/sh
# Judges the WebSocket by the cases of the Autobahn test suite: directly, and through the proxies of deploy/.
# Example: scripts/conformance.sh direct nginx
set -eu

# Runs Autobahn's own cases; the suite itself needs a Python that is no longer made.
KOSOKU=0.1.0

cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin
target=${CARGO_TARGET_DIR:-target}
venv=$target/conformance/kosoku-$KOSOKU

# BURBLE is a server that is built already, with the feature.
[ -n "${BURBLE:-}" ] || cargo build --locked --features conformance
if [ ! -x "$venv/bin/kosoku" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "kosoku==$KOSOKU"
fi
exec "$venv/bin/python" -B scripts/conformance "${BURBLE:-$(realpath "$target")/debug/burble}" "$@"
