#!/usr/bin/env bash
# What idle workers cost a coordinator, over TLS: its resident memory with 0, 100 and 1,000 of them.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release -q
cargo bench -q -p convoy-worker --bench idle_workers --no-run
work=$(mktemp -d)
export CONVOY_HOME=$work/admin
address=127.0.0.1:7179
convoy=target/release/convoy
"$convoy" cluster init --state "$work/state" --coordinator "$address" > /dev/null
"$convoy" coordinator --state "$work/state" --listen "$address" 2> /dev/null &
coordinator=$!
trap 'kill $coordinator 2> /dev/null; wait; rm -rf "$work"' EXIT
until "$convoy" health > /dev/null 2>&1; do sleep 0.1; done
"$convoy" token create --role worker --ttl 1h --uses 0 > "$work/token"
rss() { awk '/VmRSS/ {print $2}' "/proc/$coordinator/status"; }
none=$(rss)
echo "0 workers: $none KiB"
for count in 100 1000; do
    mkfifo "$work/hold$count"
    cargo bench -q -p convoy-worker --bench idle_workers -- "$address" "$work/token" "$count" < "$work/hold$count" > "$work/said$count" &
    exec {hold}> "$work/hold$count"
    until grep -q connected "$work/said$count"; do sleep 0.2; done
    # Heartbeats of some seconds are part of being idle.
    sleep 5
    now=$(rss)
    echo "$count workers: $now KiB, $(((now - none) / count)) KiB each, $("$convoy" workers --json | wc -l) connected"
    exec {hold}>&-
    wait %2 2> /dev/null || true
    until [ "$("$convoy" workers --json | wc -l)" = 0 ]; do sleep 0.2; done
done
