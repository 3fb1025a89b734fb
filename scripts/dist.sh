#!/bin/sh
# Packs what `cargo build --profile dist` has built, with what one needs to start it.
set -eu

target=${CARGO_TARGET_DIR:-target}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
host=$(rustc -vV | sed -n 's/^host: //p')
name=burble-$version-$host

rm -rf "$target/$name"
mkdir -p "$target/$name"
cp "$target/dist/burble" README.md .env.example LICENSE "$target/$name/"
tar -C "$target" -czf "$target/$name.tar.gz" "$name"
rm -rf "${target:?}/$name"
echo "$target/$name.tar.gz"
