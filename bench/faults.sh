#!/usr/bin/env bash
# What each fault costs a run, with real processes: tries, steps rolled back, work done again, seconds to the next
# committed step, and whether every digest was that of an undisturbed run and the ledger exact. See docs/faults.md.
#
#     bench/faults.sh [--json] [--tries N] [ROW...]
#
# Some rows want root, iproute2, iptables, strace or faketime, and say so where they are not run. CONVOY and SIM name
# other binaries than those of a release build. The exit code is 1 when a promise was not kept.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${CONVOY:-}" ]; then
    cargo build --quiet --release -p convoy -p convoy-sim
fi
cargo build --quiet -p convoy-faults
convoy=${CONVOY:-target/release/convoy}
sim=${SIM:-$(dirname "$convoy")/convoy-sim}
[ -x "$sim" ] && set -- --sim "$sim" "$@"
exec target/debug/convoy-faults --convoy "$convoy" "$@"
