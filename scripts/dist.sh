#!/bin/sh
# Builds the fastest binary and packs it with all that is installed beside it: units, configurations, dashboards, rules,
# completions, documentation. No time and no path of this machine is in it: the same binary gives the
# same archive, to the byte.
set -eu

cd "$(dirname "$0")/.."
target=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
host=$(rustc -vV | sed -n 's/^host: //p')
name=burble-$version-$host
folder=$target/$name
# The time of what is packed, and no path of this machine in the binary.
when=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
registry=${CARGO_HOME:-$HOME/.cargo}/registry/src

RUSTFLAGS="--remap-path-prefix=$PWD=burble --remap-path-prefix=$registry=crates ${RUSTFLAGS:-}" \
    cargo build --profile dist --locked --features jemalloc --bin burble

umask 022
rm -rf "$folder"
mkdir -p "$folder/completions" "$folder/deploy"
install -m 755 "$target/dist/burble" "$folder/"
cp -R README.md CHANGELOG.md LICENSE .env.example docs grafana "$folder/"
# Images are built from the source.
for part in deploy/*; do
    [ "$part" = deploy/docker ] || cp -R "$part" "$folder/deploy/"
done
for shell in bash zsh fish; do
    "$folder/burble" completions $shell > "$folder/completions/burble.$shell"
done
chmod -R u=rwX,go=rX "$folder"
command -v sha256sum > /dev/null || sha256sum() { shasum -a 256 "$@"; }
(cd "$folder" && find . -type f ! -name SHA256SUMS | LC_ALL=C sort | while read -r file; do sha256sum "$file"; done > SHA256SUMS)

stamp=$(date -u -d "@$when" +%Y%m%d%H%M.%S 2>/dev/null || date -u -r "$when" +%Y%m%d%H%M.%S)
find "$folder" -exec env TZ=UTC touch -h -t "$stamp" {} +
case $(tar --version) in
    *GNU*) nobody="--owner=0 --group=0 --numeric-owner" ;;
    *) nobody="--uid 0 --gid 0 --uname= --gname=" ;;
esac
# shellcheck disable=SC2086 # several options
(cd "$target" && find "$name" | LC_ALL=C sort | tar --format=ustar $nobody --no-recursion -cf - -T -) | gzip -9n > "$folder.tar.gz"
rm -rf "$folder"
cd "$target" && sha256sum "$name.tar.gz" > "$name.tar.gz.sha256"

# What was packed is what one gets, and runs.
proof=$(mktemp -d)
trap 'rm -rf "$proof"' EXIT
tar -C "$proof" -xzf "$name.tar.gz"
(cd "$proof/$name" && sha256sum -c SHA256SUMS > /dev/null && ENV=development ./burble check-config > /dev/null)
echo "$target/$name.tar.gz"
