#!/usr/bin/env bash
# Trains for an hour while something is killed or paused every 20 seconds, and watches memory, descriptors, disk and
# digests: nothing may grow, and nothing may differ from undisturbed runs.
#
#     bench/soak.sh [--seconds 3600] [--every 20] [--seed N] [--workers 4] [--json]
#
# CONVOY names the binary (target/release/convoy).
set -euo pipefail
cd "$(dirname "$0")/.."
[ -n "${CONVOY:-}" ] || cargo build --quiet --release -p convoy
CONVOY=$(realpath "${CONVOY:-target/release/convoy}") exec python3 bench/soak.py "$@"
