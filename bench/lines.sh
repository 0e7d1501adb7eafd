#!/usr/bin/env bash
# Lines of Rust of each crate: all, and those that are neither blank nor comment; tests apart.
set -euo pipefail
cd "$(dirname "$0")/.."
count() { find "$@" -name '*.rs' 2>/dev/null -print0 | xargs -0r cat | awk '{all++} !/^[ \t]*($|\/\/)/ {code++} END {printf "%7d %7d\n", all, code}'; }
printf '%-14s %7s %7s\n' crate lines code
for crate in scheduler kernels common vision model nn proto coordinator worker cli; do
    printf '%-14s ' $crate; count $crate/src
done
printf '%-14s ' 'tests, benches'; count */tests */benches tests
