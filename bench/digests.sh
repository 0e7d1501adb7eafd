#!/usr/bin/env bash
# The table of digests: one epoch of the Fashion-MNIST example, carried in every way.
#
#     bench/digests.sh [MORE ARGUMENTS OF convoy train]
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --quiet --release -p convoy
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
echo "workers  threads  instructions  parameters_digest"
one() {
    CONVOY_CPU=${3:-} target/release/convoy train examples/fashion-mnist.toml --set train.epochs=1 --workers "$1" \
        --threads "$2" --json --out "$runs/$1-$2-${3:-}" "${@:4}" 2>/dev/null | tail -n 1 |
        sed "s/.*\"parameters_digest\":\"\([0-9a-f]*\)\".*/$1        $2        ${3:-best}          \1/"
}
for workers in 1 2 3 5 8; do
    for threads in 1 2; do one $workers $threads "" "$@"; done
done
one 2 1 avx2 "$@"
