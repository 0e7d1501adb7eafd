#!/usr/bin/env bash
# A data set of 1.3 million pictures: seconds and memory of a first and a second look, bytes of the manifest, memory of
# coordinator and worker, and seconds until a worker that joins has given a step.
#
# usage: bench/million.sh FOLDER [million.py's options]
#
# The pictures are made in FOLDER unless they are there (bench/million.py); with --shards 130 also as tar shards.
# CONVOY names the binary. Needs GNU time.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "$1")
shift
convoy=$(realpath "${CONVOY:-target/release/convoy}")
[ -d "$folder/folders" ] || bench/million.py "$folder" "$@"
work=$(mktemp -d)
trap 'jobs -p | xargs -r kill 2>/dev/null || true; wait; rm -rf "$work"' EXIT
export CONVOY_CACHE=$work/cache
cat > "$work/job.toml" <<'EOF'
[data]
train = "."
[prepare]
size = [8, 8]
[train]
epochs = 1
batch = 1024
shard = 128
[network]
layers = [
    { type = "conv", out = 8, kernel = 3, padding = 1 }, { type = "relu" }, { type = "global_avg_pool" },
    { type = "flatten" }, { type = "linear", out = 1000 },
]
EOF

for data in "$folder/folders" "$folder/shards"; do
    [ -d "$data" ] || continue
    echo "$data"
    for look in first second; do
        /usr/bin/time -f "%e s, %U s + %S s of CPU, at most %M KiB" -o "$work/time" \
            "$convoy" describe "$work/job.toml" --set data.train="$data" > "$work/log" 2>&1
        echo "  $look look: $(tail -1 "$work/time")"
    done
    run=$work/run-$(basename "$data")
    "$convoy" coordinator "$work/job.toml" --set data.train="$data" --out "$run" --listen 127.0.0.1:7171 \
        > "$work/log" 2>&1 &
    coordinator=$!
    until [ -s "$run/plan.json" ]; do sleep 0.1; done
    echo "  manifest: $(stat -c %s "$run/manifest.bin") bytes"
    began=$(date +%s.%N)
    "$convoy" worker --coordinator 127.0.0.1:7171 --threads 2 > "$work/log" 2>&1 &
    worker=$!
    until grep -qs '"step' "$run/journal"; do sleep 0.1; done
    echo "  worker joined, first step done: $(echo "$(date +%s.%N) - $began" | bc) s"
    sleep 3
    for process in coordinator worker; do
        echo "  $process: $(awk '/VmHWM|VmRSS/ { printf "%s %s KiB  ", $1, $2 }' "/proc/${!process}/status")"
    done
    kill -INT "$worker" && sleep 1 && kill -INT "$coordinator"
    wait || true
done
