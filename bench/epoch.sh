#!/usr/bin/env bash
# Whole runs of Convoy and of their PyTorch twins, side by side: loading, augmentation, training, validation.
#
#     bench/epoch.sh [PYTHON] FASHION FLOWERS
#
# PYTHON is one with torch, torchvision and Pillow (else as bench/step.sh has it), FASHION the folder with the four IDX files
# of Fashion-MNIST (one epoch), FLOWERS one with class folders in train/ and val/ (five epochs at 160x160).
#
# Convoy's seconds are those of the whole process, with checkpoints and the model's export. PyTorch's begin after its
# imports; the faster of augmentation between steps and of a DataLoader's worker processes counts. ROUNDS=2 alternate.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -lt 2 ]; then sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
if [ $# -gt 2 ]; then export CONVOY_PYTHON=$1; shift; fi
fashion=$(realpath "$1") flowers=$(realpath "$2") rounds=${ROUNDS:-2} cores=$(nproc)
source bench/python.sh
cargo build --quiet --release -p convoy
convoy=target/release/convoy
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
for name in fashion-mnist-full flowers-160; do
    args=("bench/specs/$name.toml")
    if [ $name = flowers-160 ]; then args+=(--set "data.train=\"$flowers\"")
    else args+=(--set "data.train=\"$fashion\"" --set train.epochs=1); fi
    $convoy spec "${args[@]}" --json > "$runs/$name.spec"
    for round in $(seq "$rounds"); do
        echo "$name, round $round of $rounds" >&2
        begun=$EPOCHREALTIME
        $convoy train "${args[@]}" --json --out "$runs/$name-$round" 2> "$runs/log" > "$runs/out" \
            || { cat "$runs/log" >&2; exit 1; }
        echo "convoy $begun $EPOCHREALTIME $(tail -n 1 "$runs/out")" >> "$runs/$name.runs"
        for workers in 0 "$cores"; do
            "$python" tests/reference/twin.py --seeds 1 --threads "$cores" --workers "$workers" \
                < "$runs/$name.spec" 2> "$runs/log" > "$runs/out" || { cat "$runs/log" >&2; exit 1; }
            echo "torch-$workers 0 0 $(tail -n 1 "$runs/out")" >> "$runs/$name.runs"
        done
    done
    "$python" - "$name" "$runs/$name.runs" <<'TABLE'
import json, sys
found = {}
for line in open(sys.argv[2]):
    side, begun, ended, report = line.split(" ", 3)
    report = json.loads(report)
    convoy = side == "convoy"
    seconds = float(ended) - float(begun) if convoy else report["loading_seconds"] + report["seconds"][0]
    top1 = report["validation"]["top1"] if convoy else report["top1"][0]
    found.setdefault(side, []).append((seconds, top1))
print(f"\n{sys.argv[1]}")
for side, results in found.items():
    kind = {"convoy": "convoy", "torch-0": "torch, augmenting between steps"}.get(side, "torch, DataLoader with workers")
    print(f"{kind:34} seconds {min(results)[0]:7.1f} of {[round(s, 1) for s, _ in results]}, top-1 {results[-1][1]:.4f}")
torch = min(min(results) for side, results in found.items() if side != "convoy")
print(f"convoy is {torch[0] / min(found['convoy'])[0]:.2f} times as fast as PyTorch at its best")
TABLE
done
