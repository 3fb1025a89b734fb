#!/bin/sh
# Fuzzes the decoder of frames with libFuzzer, on any toolchain; cargo-fuzz does the same with more to choose from.
# What it finds lies in target/fuzz; a frame worth keeping belongs into fuzz/corpus/frame, which the tests read too.
# Example: scripts/fuzz.sh 60 (seconds)
set -eu

seconds=${1:-60}
cd "$(dirname "$0")/.."
target=$(mkdir -p "${CARGO_TARGET_DIR:-target}/fuzz" && cd "${CARGO_TARGET_DIR:-target}/fuzz" && pwd)
mkdir -p "$target/corpus" "$target/found"

# As cargo-fuzz builds, but without a sanitizer: there is no unsafe code to watch.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1" \
    CARGO_TARGET_DIR=$target cargo build --locked --release --manifest-path fuzz/Cargo.toml \
    --target "$(rustc -vV | sed -n 's/^host: //p')"

exec "$target"/*/release/frame -max_total_time="$seconds" -max_len=16384 -dict=fuzz/frame.dict -timeout=5 \
    -artifact_prefix="$target/found/" "$target/corpus" fuzz/corpus/frame
