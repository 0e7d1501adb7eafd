#!/usr/bin/env bash
# Top-1 of bench/specs/fashion-mnist-full.toml with both classes of arithmetic and in PyTorch, over several seeds.
#
#     bench/accuracy.sh [--epochs N] [--seeds "1 2 3 4 5"] FASHION
#
# FASHION is the folder with the four IDX files of Fashion-MNIST. CONVOY_PYTHON is as bench/step.sh has it. Five epochs and
# five seeds unless told otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
epochs=5 seeds="1 2 3 4 5" fashion=
while [ $# -gt 0 ]; do
    case $1 in
        --epochs) epochs=$2; shift ;;
        --seeds) seeds=$2; shift ;;
        -*) fashion=; break ;;
        *) fashion=$1 ;;
    esac
    shift
done
if [ -z "$fashion" ]; then sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; fi
source bench/python.sh
cargo build --quiet --release -p convoy
convoy=target/release/convoy
args=(bench/specs/fashion-mnist-full.toml --set "data.train=\"$(realpath "$fashion")\"" --set "train.epochs=$epochs")
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
for numerics in cpu-f32-v1 cpu-f32-direct-v1; do
    for seed in $seeds; do
        echo "$numerics, seed $seed" >&2
        $convoy train "${args[@]}" --set "seed=$seed" --set "numerics=\"$numerics\"" --json --out "$runs/$numerics-$seed" \
            2> "$runs/log" > "$runs/out" || { cat "$runs/log" >&2; exit 1; }
        tail -n 1 "$runs/out" >> "$runs/$numerics"
    done
done
echo "PyTorch" >&2
# shellcheck disable=SC2086 # seeds are words
$convoy spec "${args[@]}" --json | "$python" tests/reference/twin.py --seeds $seeds --threads "$(nproc)" \
    2> "$runs/log" > "$runs/torch" || { cat "$runs/log" >&2; exit 1; }
"$python" - "$runs" <<'TABLE'
import json, pathlib, statistics, sys
folder = pathlib.Path(sys.argv[1])
found = {name: [json.loads(line)["validation"]["top1"] for line in (folder / name).read_text().splitlines()]
         for name in ["cpu-f32-v1", "cpu-f32-direct-v1"]}
found["PyTorch"] = json.loads((folder / "torch").read_text())["top1"]
print(f"{'top-1 in %':20}{'mean':>8}{'min':>8}{'max':>8}{'std':>8}  of each seed")
for name, top1 in found.items():
    top1 = [100 * value for value in top1]
    deviation = statistics.stdev(top1) if len(top1) > 1 else 0.0
    figures = "".join(f"{value:8.2f}" for value in [statistics.mean(top1), min(top1), max(top1), deviation])
    print(f"{name:20}{figures}  {', '.join(f'{value:.2f}' for value in top1)}")
TABLE
