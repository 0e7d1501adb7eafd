#!/usr/bin/env bash
# Training over emulated links, one network namespace for the coordinator and one for each worker: seconds of a step, who
# computed what, and who was late, copied or put out. Needs root, iproute2 and two cores.
#
#     bench/net.sh [mid|fat [RATE [WORKERS...]]]
#
# `mid` has 11.2 MB of gradients and `fat` 44.7 MB, both with little arithmetic. All namespaces are joined by a bridge,
# and every link is limited to RATE in both directions by `tbf`. Without arguments: `mid` at 250mbit and `fat` at 1gbit,
# with 2, 4 and 8 workers each. Seconds, and the steps with all workers, are of the steps after the first three. EPOCHS
# of 10 steps (3), AUDIT percent of the shards (0). The digest must be that of `convoy train`, and `convoy audit` must
# find every sample once.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# = 0 ]; then
    "$0" mid 250mbit 2 4 8
    exec "$0" fat 1gbit 2 4 8
fi
kind=$1 rate=${2:-250mbit}
shift $(($# < 2 ? $# : 2))
[ $# -gt 0 ] || set -- 2 4 8
if [ -z "${CONVOY:-}" ]; then
    cargo build --quiet --release -p convoy
    CONVOY=$PWD/target/release/convoy
fi
convoy=$(realpath "$CONVOY") table=$PWD/bench/net.py
work=$(mktemp -d)
pids=() spaces=()
stop() {
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    local space
    for space in "${spaces[@]}"; do ip netns del "$space" 2>/dev/null || true; done
    pids=() spaces=()
}
trap 'stop; rm -rf "$work"' EXIT
cd "$work"
python3 "$table" data data
case $kind in
mid) pool=4 width=13800 ;;
fat) pool=2 width=14500 ;;
*) echo "mid or fat, not $kind" >&2; exit 2 ;;
esac
cat >spec.toml <<EOF
name = "$kind"
[data]
train = "data/train-images-idx4-ubyte"
format = "idx"
validation_fraction = 0
[network]
layers = [{type="avg_pool", kernel=$pool}, {type="flatten"}, {type="linear", out=$width}, {type="relu"},
          {type="linear", out=10}]
[optimizer]
kind = "sgd"
lr = 0.001
momentum = 0.9
[schedule]
kind = "constant"
[train]
epochs = ${EPOCHS:-3}
batch = 128
shard = 16
[checkpoint]
every_seconds = 0
EOF
export CONVOY_HOME=$work/admin CONVOY_CACHE=$work/cache
"$convoy" train spec.toml --out alone --json >alone.json 2>alone.log

# A namespace on the bridge: NAME NUMBER.
join_bridge() {
    local space=$work_id-$1
    ip netns add "$space"
    spaces+=("$space")
    ip -n "$bridge" link add "v$1" type veth peer name e0 netns "$space"
    ip -n "$bridge" link set "v$1" master bridge0 up
    ip -n "$space" addr add "10.99.0.$2/24" dev e0
    ip -n "$space" link set e0 up
    ip -n "$space" link set lo up
    ip netns exec "$space" tc qdisc add dev e0 root tbf rate "$rate" burst 64kb latency 20ms
    ip netns exec "$bridge" tc qdisc add dev "v$1" root tbf rate "$rate" burst 64kb latency 20ms
}
# Hundredths of seconds that all processes used so far.
used() { local pid; for pid in "${pids[@]}"; do awk '{print $14 + $15}' "/proc/$pid/stat"; done | awk '{sum += $1} END {print sum}'; }

printf '| link, workers | s/step (median) | nodes a step | steps with all workers | shards of each, percent |'
printf ' late | copies lost | put out | cores, percent | digest | ledger |\n|---|---|---|---|---|---|---|---|---|---|---|\n'
for workers in "$@"; do
    work_id=cvy$$-$workers dir=$work/$workers bridge=cvy$$-$workers-br
    mkdir "$dir"
    ip netns add "$bridge"
    spaces+=("$bridge")
    ip -n "$bridge" link add bridge0 type bridge
    ip -n "$bridge" link set bridge0 up
    join_bridge c 1
    for i in $(seq "$workers"); do join_bridge "w$i" $((10 + i)); done
    export CONVOY_HOME=$dir/admin
    "$convoy" cluster init --state "$dir/state" --host 10.99.0.1 --coordinator 10.99.0.1:7070 >"$dir/init.log"
    at_coordinator=(ip netns exec "$work_id-c")
    # `exec` keeps the process, so that its number is that of the coordinator.
    RUST_LOG=info,convoy_coordinator=debug "${at_coordinator[@]}" "$convoy" coordinator --state "$dir/state" \
        --listen 10.99.0.1:7070 --audit "${AUDIT:-0}" --log json 2>"$dir/coordinator.log" &
    pids+=($!)
    until "${at_coordinator[@]}" "$convoy" health >/dev/null 2>&1; do sleep 0.2; done
    "${at_coordinator[@]}" "$convoy" token create --role worker --ttl 1h --uses 0 >"$dir/token"
    for i in $(seq "$workers"); do
        CONVOY_HOME=$dir/home$i CONVOY_CACHE=$dir/cache$i ip netns exec "$work_id-w$i" "$convoy" worker \
            --coordinator 10.99.0.1:7070 --token-file "$dir/token" --threads 1 --name "w$i" 2>"$dir/w$i.log" &
        pids+=($!)
    done
    before=$(used) begun=$(date +%s%N)
    "${at_coordinator[@]}" "$convoy" submit spec.toml --min-workers "$workers" --json >"$dir/job.json" 2>"$dir/job.log"
    after=$(used) ended=$(date +%s%N)
    run=$(dirname "$(find "$dir/state" -name journal)")
    ledger=$("$convoy" audit "$run" --json | grep -q '"exact": *true' && echo exact || echo WRONG)
    python3 "$table" row "$rate, $workers" "$workers" "$dir/coordinator.log" "$run" alone \
        "$(((after - before) * 10000000 * 100 / 2 / (ended - begun)))" "$ledger"
    [ -z "${KEEP:-}" ] || cp -r "$dir" "$KEEP"
    stop
done
