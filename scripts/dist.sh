#!/bin/sh
# Packs what `cargo build --profile dist` has built, with what one needs to start it.
set -eu

target=${CARGO_TARGET_DIR:-target}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
host=$(rustc -vV | sed -n 's/^host: //p')
name=burble-$version-$host

rm -rf "$target/$name"
mkdir -p "$target/$name/completions" "$target/$name/systemd"
cp "$target/dist/burble" README.md CHANGELOG.md .env.example LICENSE "$target/$name/"
cp deploy/systemd/burble.service deploy/systemd/burble.socket "$target/$name/systemd/"
for shell in bash zsh fish; do
    "$target/dist/burble" completions $shell > "$target/$name/completions/burble.$shell"
done
tar -C "$target" -czf "$target/$name.tar.gz" "$name"
rm -rf "${target:?}/$name"
echo "$target/$name.tar.gz"
