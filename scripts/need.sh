#!/bin/sh
# Installs what is missing of: rust compiler redis postgres python nginx haproxy caddy traefik faketime prometheus systemd
# valgrind. With apt-get or Homebrew, Caddy and Traefik below target/ with pip; else says what to install by hand.
# Example: scripts/need.sh rust compiler redis
set -eu

REDIS_MAJOR_MIN=7
# Debian keeps servers off the PATH of users.
PATH=$PATH:/usr/sbin

say() { printf '%s\n' "$*" >&2; }
die() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# The commands that must be there for each need; Burble takes Valkey as well as Redis.
is_met() {
    case $1 in
        rust) have cargo ;;
        compiler) have cc ;;
        redis) have redis-server || have valkey-server ;;
        postgres) "$(dirname "$0")/postgres-bin.sh" >/dev/null ;;
        python) python3 -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null ;;
        nginx | haproxy) have "$1" || [ -x "/usr/sbin/$1" ] ;;
        valgrind) have "$1" ;;
        caddy | traefik) [ -x "$("$(dirname "$0")/proxies-bin.sh")/$1" ] ;;
        prometheus) have prometheus && have promtool ;;
        systemd) [ "$(uname)" != Linux ] || have systemd-analyze ;;
        faketime) [ "$(uname)" != Linux ] || [ -e "/usr/lib/$(uname -m)-linux-gnu/faketime/libfaketime.so.1" ] ;;
        *) die "need.sh: unknown need: $1" ;;
    esac
}

apt_package() {
    case $1 in
        compiler) echo build-essential ;;
        redis) echo redis-server ;;
        postgres) echo postgresql ;;
        python) echo python3-venv ;;
        faketime) echo libfaketime ;;
        nginx | haproxy | prometheus | systemd | valgrind) echo "$1" ;;
    esac
}

brew_package() {
    case $1 in
        redis) echo redis ;;
        postgres) echo postgresql@17 ;;
        python | nginx | haproxy | prometheus) echo "$1" ;;
    esac
}

by_hand() {
    case $1 in
        rust) echo "Rust, from https://rustup.rs" ;;
        compiler) echo "a C compiler (Debian: build-essential; macOS: xcode-select --install)" ;;
        redis) echo "redis-server $REDIS_MAJOR_MIN.0 or newer, or valkey-server (https://redis.io/docs/latest/operate/oss_and_stack/install/)" ;;
        python) echo "Python 3.10 or newer, with venv (https://www.python.org/downloads/)" ;;
        nginx | haproxy | prometheus | valgrind) echo "$1" ;;
        caddy | traefik) echo "$1, as $(dirname "$0")/proxies-bin.sh --install does" ;;
        systemd) echo "systemd-analyze, which comes with systemd" ;;
        faketime) echo "libfaketime (https://github.com/wolfcw/libfaketime)" ;;
        postgres) echo "the PostgreSQL server, with initdb and postgres (https://www.postgresql.org/download/)" ;;
    esac
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; elif have sudo; then sudo "$@"; else return 1; fi
}

# The lists of packages are only fetched where those at hand do not do.
apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1" >&2 && return
    as_root apt-get update >&2 &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1" >&2
}

install() {
    if [ "$1" = caddy ] || [ "$1" = traefik ]; then
        "$0" python && "$(dirname "$0")/proxies-bin.sh" --install >/dev/null
    elif have apt-get && [ -n "$(apt_package "$1")" ]; then
        apt_install "$(apt_package "$1")"
    elif have brew && [ -n "$(brew_package "$1")" ]; then
        brew install "$(brew_package "$1")" >&2
    else
        return 1
    fi
}

check_redis_version() {
    have redis-server || return 0
    major=$(redis-server --version | sed -n 's/.*v=\([0-9]*\)\..*/\1/p')
    [ "${major:-0}" -ge "$REDIS_MAJOR_MIN" ] || have valkey-server ||
        die "redis-server is too old ($(redis-server --version | cut -d' ' -f3)). Please install $(by_hand redis)"
}

for need in "$@"; do
    if ! is_met "$need"; then
        say "Missing: $need. Installing it …"
        install "$need" || true
        is_met "$need" || die "Please install $(by_hand "$need")"
    fi
    if [ "$need" = redis ]; then check_redis_version; fi
done
