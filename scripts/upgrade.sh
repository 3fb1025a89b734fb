#!/bin/sh
# Upgrades three nodes from an earlier revision to this one, one after the other, under load and on each set-up of Redis;
# a judge compares what was acknowledged with what was logged and seen.
# Example: scripts/upgrade.sh v0.1.0 --setup single
set -eu

cd "$(dirname "$0")/.."
from=${1:?the revision to upgrade from}
shift
commit=$(git rev-parse --verify "$from^{commit}")
folder=$(mkdir -p "${CARGO_TARGET_DIR:-target}/former" && cd "${CARGO_TARGET_DIR:-target}/former" && pwd)
former=$folder/burble-$commit
scripts/need.sh rust compiler redis postgres haproxy
PATH=$PATH:/usr/sbin:$(scripts/postgres-bin.sh)
export PATH

if [ ! -x "$former" ]; then
    tree=$(mktemp -d)
    trap 'git worktree remove --force "$tree"' EXIT
    git worktree add --quiet --detach "$tree" "$commit"
    CARGO_TARGET_DIR="$folder/target" cargo build --quiet --manifest-path "$tree/Cargo.toml" --release --locked --bin burble
    cp "$folder/target/release/burble" "$former"
fi
cargo test --release --locked --test reliability -- --full --fault upgrade --former "$former" "$@"
