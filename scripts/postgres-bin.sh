#!/bin/sh
# Prints the folder of the PostgreSQL server's programs. Debian and Homebrew keep them off the PATH.
set -eu

for program in $(command -v initdb || true) /usr/lib/postgresql/*/bin/initdb \
    /opt/homebrew/opt/postgresql*/bin/initdb /usr/local/opt/postgresql*/bin/initdb; do
    bin=$(dirname "$program")
    if [ -x "$program" ] && [ -x "$bin/postgres" ]; then
        echo "$bin"
        exit 0
    fi
done
exit 1
