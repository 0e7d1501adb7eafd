#!/usr/bin/env bash
# What TLS costs an upload: nodes of 44.7 MB over loopback, plain and encrypted in turn.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo bench -q -p convoy-proto --bench uploads -- "${1:-40}"
