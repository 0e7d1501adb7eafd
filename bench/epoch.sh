#!/usr/bin/env bash
# Whole runs of Convoy and of their PyTorch twins, side by side: loading, augmentation, training, validation.
#
#     bench/epoch.sh [PYTHON] FASHION FLOWERS
#
# PYTHON is one with torch, torchvision and Pillow (else as bench/step.sh has it), FASHION the folder with the four IDX files
# of Fashion-MNIST (one epoch), FLOWERS one with class folders in train/ and val/ (five epochs at 160x160).
#
# Convoy's seconds are those of the whole process, with checkpoints and the model's export. PyTorch's begin after its
# imports, those of its whole process stand beside them; the faster of augmentation between steps and of a DataLoader's
# worker processes counts. ROUNDS=2 alternate.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -lt 2 ]; then sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
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
            begun=$EPOCHREALTIME
            "$python" tests/reference/twin.py --seeds 1 --threads "$cores" --workers "$workers" \
                < "$runs/$name.spec" 2> "$runs/log" > "$runs/out" || { cat "$runs/log" >&2; exit 1; }
            echo "torch-$workers $begun $EPOCHREALTIME $(tail -n 1 "$runs/out")" >> "$runs/$name.runs"
        done
    done
    "$python" - "$name" "$runs/$name.runs" <<'TABLE'
import json, sys
found = {}
for line in open(sys.argv[2]):
    side, begun, ended, report = line.split(" ", 3)
    report = json.loads(report)
    convoy = side == "convoy"
    whole = float(ended) - float(begun)
    seconds = whole if convoy else report["loading_seconds"] + report["seconds"][0]
    top1 = report["validation"]["top1"] if convoy else report["top1"][0]
    found.setdefault(side, []).append((seconds, whole, top1))
print(f"\n{sys.argv[1]}")
for side, results in found.items():
    kind = {"convoy": "convoy", "torch-0": "torch, augmenting between steps"}.get(side, "torch, DataLoader with workers")
    whole = min(whole for _, whole, _ in results)
    all_seconds = [round(seconds, 1) for seconds, _, _ in results]
    print(f"{kind:34} seconds {min(results)[0]:7.1f} of {all_seconds}, whole process {whole:.1f}, top-1 {results[-1][2]:.4f}")
torch = [result for side, results in found.items() if side != "convoy" for result in results]
ratios = [min(result[i] for result in torch) / min(result[i] for result in found["convoy"]) for i in (0, 1)]
print(f"convoy is {ratios[0]:.2f} times as fast as PyTorch at its best; whole processes {ratios[1]:.2f}")
TABLE
done
