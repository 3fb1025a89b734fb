#!/bin/sh
# Draws docs/images anew, from what two nodes show under load and what the load tool measures. Takes six minutes beside
# the build; a machine that does nothing else gives the better figures.
set -eu

MATPLOTLIB=3.10.7

cd "$(dirname "$0")/.."
target=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
venv=$target/pictures/matplotlib-$MATPLOTLIB
PATH=$PATH:/usr/sbin:$(scripts/postgres-bin.sh)
export PATH

cargo build --release --locked
if [ ! -e "$venv/done" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "matplotlib==$MATPLOTLIB"
    : > "$venv/done"
fi
exec "$venv/bin/python" -B scripts/pictures "$target/release" "$@"
