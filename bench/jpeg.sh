#!/usr/bin/env bash
# Photographs to normalised tensors on one core: decode, random resized crop, horizontal flip, normalise; images a
# second beside torchvision's, by tensors and by Pillow, measured in turn.
#
#     bench/jpeg.sh PYTHON FLOWERS [ROUNDS]
#
# PYTHON is one with torch, torchvision and Pillow; FLOWERS a folder with class folders in train/ and val/. Our side is
# `Dataset::batch`, what the loader's threads call, with nothing kept decoded: it also compares each file's digest.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 flowers=$(realpath "$2") rounds=${3:-5}
ours=$(cargo bench --quiet -p convoy-vision --bench jpeg --no-run --message-format=json |
    "$python" -c 'import json, sys
for line in sys.stdin:
    line = json.loads(line)
    if line.get("executable") and line["target"]["name"] == "jpeg": print(line["executable"])')
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
OMP_NUM_THREADS=1 "$python" bench/jpeg.py "$ours" "$flowers" "$data" "$rounds"
