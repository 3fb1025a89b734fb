#!/bin/sh
# Has schemathesis look for requests that a running node answers otherwise than docs/openapi.json says.
# Example: scripts/schemathesis.sh --seed 7
set -eu

VERSION=4.32.5
VALIDATOR=0.9.0

cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
venv=$target/schemathesis/$VERSION

# BURBLE is a server that is built already, with the feature; conformance.sh uses the same.
[ -n "${BURBLE:-}" ] || cargo build --locked --features conformance
if [ ! -x "$venv/bin/finished" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check \
        "schemathesis==$VERSION" "openapi-spec-validator==$VALIDATOR"
    ln -s python "$venv/bin/finished" # the mark of a finished installation
fi
exec "$venv/bin/python" -B scripts/schemathesis "${BURBLE:-$(realpath "$target")/debug/burble}" "$@"
