#!/usr/bin/env bash
# Training steps of Convoy and of PyTorch at its best, side by side on the cores of this machine.
#
#     bench/step.sh [--avx2] [--rounds N] [--steps N] [SPEC...]
#
# SPEC is a name in bench/specs/ that has a twin in bench/twins.py; all of them when absent. --avx2 holds both sides to AVX2.
# CONVOY_PYTHON is a Python with torch and torchvision; without it they are installed into target/bench-python.
# torch.compile needs a C++ compiler (g++). Rounds alternate between the sides, a process each, so that a machine that is
# busy for a while is so for both.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=3 steps=8 avx2= specs=()
while [ $# -gt 0 ]; do
    case $1 in
        --avx2) avx2=1 ;;
        --rounds) rounds=$2; shift ;;
        --steps) steps=$2; shift ;;
        -*) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
        *) specs+=("$(basename "$1" .toml)") ;;
    esac
    shift
done
[ ${#specs[@]} -gt 0 ] || specs=(vgg-like-32 resnet18-32 mobilenetv2-96 resnet50-224)

source bench/python.sh
command -v g++ > /dev/null || echo "no g++: torch.compile will fail; install a C++ compiler to measure it" >&2
cargo build --quiet --release -p convoy
convoy=target/release/convoy
if [ -n "$avx2" ]; then export CONVOY_CPU=avx2 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for spec in "${specs[@]}"; do
    classes=$("$python" -c 'import sys; sys.path.insert(0, "bench"); import twins; print(twins.TWINS[sys.argv[1]][2])' "$spec")
    for round in $(seq "$rounds"); do
        echo "$spec, round $round of $rounds" >&2
        $convoy bench "bench/specs/$spec.toml" --classes "$classes" --steps "$steps" --json \
            2> "$work/log" >> "$work/$spec.convoy" || { cat "$work/log" >&2; exit 1; }
        for variant in eager ddp compile; do
            if [ -e "$work/$spec.$variant.failed" ]; then continue; fi
            if ! "$python" bench/twins.py "$spec" --variant $variant --steps "$steps" \
                2> "$work/log" >> "$work/$spec.$variant"; then
                { echo "$spec: PyTorch's variant $variant failed:"; tail -n 3 "$work/log"; } >&2
                touch "$work/$spec.$variant.failed"
            fi
        done
    done
    "$python" bench/step_table.py "$work" "$spec"
done
