#!/usr/bin/env bash
# Top-1 and seconds of the two examples and of their PyTorch twins, three seeds each, on two cores.
#
#     bench/examples.sh PYTHON FLOWERS
#
# PYTHON is one with torch, torchvision and Pillow; FLOWERS a folder with class folders in train/ and val/.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 flowers=$(realpath "$2")
cargo build --quiet --release -p convoy
convoy=target/release/convoy
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
for example in fashion-mnist photos; do
    args=(examples/$example.toml)
    if [ $example = photos ]; then args+=(--set "data.train=\"$flowers\""); fi
    for seed in 1 2 3; do
        $convoy train "${args[@]}" --set seed=$seed --workers 2 --threads 1 --json --out "$runs/$example-$seed" \
            2>"$runs/log" >"$runs/out" || { cat "$runs/log"; exit 1; }
        tail -n 1 "$runs/out" >>"$runs/$example.json"
    done
    echo -n "$example  convoy  "
    "$python" -c 'import json, sys
runs = [json.loads(line) for line in sys.stdin]
top1, seconds = [r["validation"]["top1"] for r in runs], [round(r["seconds"], 1) for r in runs]
print("top1", top1, "mean %.4f" % (sum(top1) / len(top1)), "seconds", seconds, "images/s", [round(r["images_per_second"]) for r in runs])' <"$runs/$example.json"
    echo -n "$example  torch   "
    $convoy spec "${args[@]}" --json | "$python" tests/reference/twin.py --seeds 1 2 3 --threads 2 2>/dev/null
done
