#!/bin/sh
# Checks the dashboards: that they are what dashboards.py says, and by Grafana's own model of them.
set -eu

SDK='1769699379!11.6.0'

cd "$(dirname "$0")/.."
venv=${CARGO_TARGET_DIR:-target}/dashboards/sdk-11.6.0

python3 scripts/dashboards.py --check
if [ ! -x "$venv/bin/grafana-model" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "grafana-foundation-sdk==$SDK"
    ln -s python "$venv/bin/grafana-model" # the mark of a finished installation
fi
exec "$venv/bin/python" -B scripts/grafana_model.py
