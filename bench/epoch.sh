#!/usr/bin/env bash
# Whole runs of Convoy and of their PyTorch twins, side by side: loading, augmentation, training, validation.
#
#     bench/epoch.sh [PYTHON] FASHION FLOWERS
#
# PYTHON is one with torch, torchvision and Pillow (else as bench/step.sh has it), FASHION the folder with the four IDX files
# of Fashion-MNIST (one epoch), FLOWERS one with class folders in train/ and val/ (five epochs at 160x160; PHOTO_EPOCHS
# may be others). RUNS="fashion-mnist-full flowers-160" are the runs.
#
# Convoy's seconds are those of the whole process, with checkpoints and the model's export. PyTorch's begin after its
# imports, those of its whole process stand beside them; the fastest of f32 and autocast with bfloat16, of augmentation
# between steps and a DataLoader's worker processes counts. ROUNDS=2 alternate, in each second one PyTorch's memory is
# kept as in bench/step.sh. NUMERICS="cpu-f32-v1 cpu-bf16-v1" are Convoy's classes.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -lt 2 ]; then sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
if [ $# -gt 2 ]; then export CONVOY_PYTHON=$1; shift; fi
fashion=$(realpath "$1") flowers=$(realpath "$2") rounds=${ROUNDS:-2} cores=$(nproc)
read -ra runs_wanted <<< "${RUNS:-fashion-mnist-full flowers-160}"
read -ra classes <<< "${NUMERICS:-cpu-f32-v1 cpu-bf16-v1}"
source bench/python.sh
cargo build --quiet --release -p convoy
convoy=target/release/convoy
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
for name in "${runs_wanted[@]}"; do
    args=("bench/specs/$name.toml")
    if [ "$name" = flowers-160 ]; then
        args+=(--set "data.train=\"$flowers\"" --set "train.epochs=${PHOTO_EPOCHS:-5}")
    else
        args+=(--set "data.train=\"$fashion\"" --set train.epochs=1)
    fi
    $convoy spec "${args[@]}" --json > "$runs/$name.spec"
    for round in $(seq "$rounds"); do
        echo "$name, round $round of $rounds" >&2
        for class in "${classes[@]}"; do
            begun=$EPOCHREALTIME
            $convoy train "${args[@]}" --set "numerics=\"$class\"" --json --out "$runs/$name-$class-$round" \
                2> "$runs/log" > "$runs/out" || { cat "$runs/log" >&2; exit 1; }
            echo "convoy-$class $begun $EPOCHREALTIME $(tail -n 1 "$runs/out")" >> "$runs/$name.runs"
        done
        malloc=()
        if [ $((round % 2)) = 0 ]; then
            malloc=(-u GLIBC_TUNABLES MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=67108864)
        fi
        for workers in 0 "$cores"; do
            for precision in "" --bf16; do
                begun=$EPOCHREALTIME
                env "${malloc[@]}" "$python" tests/reference/twin.py --seeds 1 --threads "$cores" --workers "$workers" \
                    $precision < "$runs/$name.spec" 2> "$runs/log" > "$runs/out" || { cat "$runs/log" >&2; exit 1; }
                echo "torch-$workers$precision $begun $EPOCHREALTIME $(tail -n 1 "$runs/out")" >> "$runs/$name.runs"
            done
        done
    done
    "$python" - "$name" "$runs/$name.runs" <<'TABLE'
import json, sys
found = {}
for line in open(sys.argv[2]):
    side, begun, ended, report = line.split(" ", 3)
    report = json.loads(report)
    convoy = side.startswith("convoy")
    whole = float(ended) - float(begun)
    seconds = whole if convoy else report["loading_seconds"] + report["seconds"][0]
    top1 = report["validation"]["top1"] if convoy else report["top1"][0]
    found.setdefault(side, []).append((seconds, whole, top1))
print(f"\n{sys.argv[1]}")
for side, results in found.items():
    name, _, rest = side.partition("-")
    if name == "torch":
        workers, _, bf16 = rest.partition("--")
        rest = ("augmenting between steps" if workers == "0" else "DataLoader with workers") + (bf16 and ", bf16")
    whole = min(whole for _, whole, _ in results)
    all_seconds = [round(seconds, 1) for seconds, _, _ in results]
    print(f"{name + ', ' + rest:38} seconds {min(results)[0]:7.1f} of {all_seconds}, whole process {whole:.1f}, "
          f"top-1 {results[-1][2]:.4f}")
torch = [result for side, results in found.items() if side.startswith("torch") for result in results]
for side in [side for side in found if side.startswith("convoy")]:
    ratios = [min(result[i] for result in torch) / min(result[i] for result in found[side]) for i in (0, 1)]
    print(f"{side} is {ratios[0]:.2f} times as fast as PyTorch at its best; whole processes {ratios[1]:.2f}")
TABLE
done
