#!/usr/bin/env bash
# Whether all hosts of a network can send to all others at once as fast as their links are, over TLS: what workers need
# that add parts of a gradient for each other. Each step, every host sends MB x (HOSTS - 1) / HOSTS and takes as much,
# twice: once to whoever adds it, once what was made of it.
#
#     bench/mesh.sh [RATE MB [HOSTS...]]
#
# Hosts are network namespaces on a bridge (bench/namespaces.sh). Without arguments: 11.2 MB at 250mbit with 2, 4 and 8
# hosts, and 44.7 MB at 1gbit with 2 and 4. "Of the link" is what arrived of numbers alone, without headers of any
# protocol. Cores: of both, by all processes; where it is above 60 %, it is they that limit.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# = 0 ]; then
    "$0" 250mbit 11.2 2 4 8
    exec "$0" 1gbit 44.7 2 4
fi
rate=$1 megabytes=$2 steps=${STEPS:-12}
shift 2
[ $# -gt 0 ] || set -- 2 4 8
mesh=$(cargo bench --quiet -p convoy-proto --bench mesh --no-run --message-format json |
    python3 -c 'import json,sys
print([e for e in (json.loads(l).get("executable") for l in sys.stdin) if e][-1])')
. bench/namespaces.sh
work=$(mktemp -d)
trap 'stop; rm -rf "$work"' EXIT
printf '| link, MB, hosts | s/step (median) | the link alone | of the link, percent | cores, percent |\n|---|---|---|---|---|\n'
for hosts in "$@"; do
    open_bridge "mesh$$-$hosts"
    addresses=() keys=$work/$hosts
    mkdir "$keys"
    for i in $(seq "$hosts"); do
        join_bridge "h$i" "$i"
        addresses+=("10.99.0.$i")
    done
    "$mesh" keys "$keys" "${addresses[@]}"
    start=$(($(date +%s) + 4))
    for i in $(seq "$hosts"); do
        # Each begins with the next one, so that no host is everybody's first.
        order=("${addresses[@]:i-1}" "${addresses[@]:0:i-1}")
        ip netns exec "$net-h$i" "$mesh" peer "$keys" "$megabytes" "$steps" "$start" "${order[@]}" >"$keys/$i" &
        pids+=($!)
    done
    until [ "$(date +%s)" -ge "$start" ]; do sleep 0.05; done
    before=$(used) begun=$(date +%s%N)
    until [ "$(cat "$keys"/[0-9]* | wc -l)" = "$hosts" ]; do sleep 0.05; done
    after=$(used) ended=$(date +%s%N)
    python3 - "$rate" "$megabytes" "$hosts" "$(((after - before) * 10000000 * 100 / 2 / (ended - begun)))" "$keys"/[0-9]* <<'END'
import statistics, sys
rate, megabytes, hosts, cores = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
bits = float(rate.removesuffix("gbit").removesuffix("mbit")) * (1e9 if rate.endswith("gbit") else 1e6)
took = [[float(word) for word in open(path).read().split()] for path in sys.argv[5:]]
# The first two steps are those of slow start.
median = statistics.median(seconds for steps in took for seconds in steps[2:])
link = 2 * megabytes * 8e6 * (hosts - 1) / hosts / bits
print(f"| {rate}, {megabytes}, {hosts} | {median:.3f} | {link:.3f} | {100 * link / median:.0f} | {cores} |", flush=True)
END
    stop
done
