#!/usr/bin/env bash
# The same photographs from class folders and from archives: images a second on one core, read, checked, decoded,
# cropped, flipped and normalised, in random order, measured in turn. Of each, the fastest epoch counts. Of a Parquet file
# too, where CONVOY_PYTHON is a Python with pyarrow.
#
#     bench/loading.sh FOLDER [SIZE] [ROUNDS]
#
# FOLDER has class folders.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath "$1") size=${2:-64} rounds=${3:-3}
bench=$(cargo bench --quiet -p convoy-vision --bench jpeg --no-run --message-format=json |
    grep '"name":"jpeg"' | grep -o '"executable":"[^"]*"' | cut -d '"' -f 4)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CONVOY_CACHE=$work
tar -cf "$work/photos.tar" -C "$folder" .
tar -czf "$work/photos.tgz" -C "$folder" .
sources=("$folder" "$work/photos.tar" "$work/photos.tgz")
if [ -n "${CONVOY_PYTHON:-}" ]; then
    "$CONVOY_PYTHON" bench/parquet.py "$folder" "$work/photos.parquet"
    sources+=("$work/photos.parquet")
fi
for _ in $(seq "$rounds"); do
    for source in "${sources[@]}"; do
        "$bench" "$source" "$size" >>"$work/$(basename "$source").rates"
    done
done
for source in "${sources[@]}"; do
    echo "$(sort -g "$work/$(basename "$source").rates" | tail -n 1) images/s  $(basename "$source")"
done
