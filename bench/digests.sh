#!/usr/bin/env bash
# One epoch of the Fashion-MNIST example, carried in every way: a table of the digests, and whether each is the frozen one.
#
#     bench/digests.sh
#
# Ends with 1 if any differs from tests/golden/fashion-mnist.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --quiet --release -p convoy
golden=$(<tests/golden/fashion-mnist.txt)
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
wrong=0
echo "workers  threads  instructions  parameters_digest"
one() {
    local digest
    digest=$(CONVOY_CPU=${3:-} target/release/convoy train examples/fashion-mnist.toml --set train.epochs=1 --workers "$1" \
        --threads "$2" --json --out "$runs/$1-$2-${3:-}" 2>/dev/null | tail -n 1 |
        sed 's/.*"parameters_digest":"\([0-9a-f]*\)".*/\1/')
    local verdict=""
    if [ "$digest" != "$golden" ]; then
        verdict="  is not the frozen one"
        wrong=1
    fi
    echo "$1        $2        ${3:-best}          $digest$verdict"
}
for workers in 1 2 3 5 8; do
    for threads in 1 2; do one $workers $threads; done
done
one 2 1 avx2
one 1 2 portable
exit $wrong
