#!/usr/bin/env bash
# Training steps of Convoy and of PyTorch at its best, side by side on the cores of this machine.
#
#     bench/step.sh [--avx2] [--rounds N] [--steps N] [--numerics CLASS]... [SPEC...]
#
# SPEC is a name in bench/specs/ that has a twin in bench/twins.py; all of them when absent. --avx2 holds both sides to
# AVX2. Convoy computes in each CLASS (cpu-f32-v1 and cpu-bf16-v1), PyTorch in f32 and under autocast with bfloat16.
# CONVOY_PYTHON is a Python with torch and torchvision; without it they are installed into target/bench-python.
# torch.compile needs a C++ compiler (g++). Rounds alternate between the sides, a process each, so that a machine that
# is busy for a while is so for both; in each second round PyTorch's memory is kept by MALLOC_MMAP_MAX_=0 and a large
# threshold instead of glibc's tunables. The better step counts.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=4 steps=8 avx2= specs=() numerics=()
while [ $# -gt 0 ]; do
    case $1 in
        --avx2) avx2=1 ;;
        --rounds) rounds=$2; shift ;;
        --steps) steps=$2; shift ;;
        --numerics) numerics+=("$2"); shift ;;
        -*) sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
        *) specs+=("$(basename "$1" .toml)") ;;
    esac
    shift
done
[ ${#specs[@]} -gt 0 ] || specs=(vgg-like-32 resnet18-32 mobilenetv2-96 resnet50-224)
[ ${#numerics[@]} -gt 0 ] || numerics=(cpu-f32-v1 cpu-bf16-v1)

source bench/python.sh
command -v g++ > /dev/null || echo "no g++: torch.compile will fail; install a C++ compiler to measure it" >&2
cargo build --quiet --release -p convoy
convoy=target/release/convoy
if [ -n "$avx2" ]; then export CONVOY_CPU=avx2 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for spec in "${specs[@]}"; do
    classes=$("$python" -c 'import sys; sys.path.insert(0, "bench"); import twins; print(twins.TWINS[sys.argv[1]][2])' \
        "$spec")
    for round in $(seq "$rounds"); do
        echo "$spec, round $round of $rounds" >&2
        for class in "${numerics[@]}"; do
            $convoy bench "bench/specs/$spec.toml" --classes "$classes" --steps "$steps" --numerics "$class" --json \
                2> "$work/log" >> "$work/$spec.$class" || { cat "$work/log" >&2; exit 1; }
        done
        malloc=()
        if [ $((round % 2)) = 0 ]; then
            malloc=(-u GLIBC_TUNABLES MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=67108864)
        fi
        for variant in eager ddp compile eager-bf16 compile-bf16; do
            if [ -e "$work/$spec.$variant.failed" ]; then continue; fi
            flags=(--variant "${variant%-bf16}")
            if [ "$variant" != "${variant%-bf16}" ]; then flags+=(--bf16); fi
            if ! env "${malloc[@]}" "$python" bench/twins.py "$spec" "${flags[@]}" --steps "$steps" \
                2> "$work/log" >> "$work/$spec.$variant"; then
                { echo "$spec: PyTorch's variant $variant failed:"; tail -n 3 "$work/log"; } >&2
                touch "$work/$spec.$variant.failed"
            fi
        done
    done
    "$python" bench/step_table.py "$work" "$spec" "${numerics[@]}"
done
