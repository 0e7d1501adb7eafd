#!/usr/bin/env bash
# Training over emulated links, one network namespace for the coordinator and one for each worker: seconds of a step, who
# computed what, who was late, copied or put out, and what passed the coordinator's link; beside PyTorch's DDP over gloo
# in the same namespaces. Needs root, iproute2 and two cores.
#
#     bench/net.sh [mid|fat|cnn [RATE [WORKERS...]]]
#
# `mid` has 11.2 MB of gradients and `fat` 44.7 MB, both with little arithmetic; `cnn` has 10.9 MB, and the arithmetic
# of six convolutions over BATCH images a step (64). All namespaces are joined by a bridge, and every link is limited to RATE in
# both directions by `tbf`. Without arguments: `mid` and `cnn` at 250mbit and `fat` at 1gbit, with 2, 4 and 8 workers
# each. EXCHANGE is who adds gradients: "star" for the coordinator, "sliced" for the workers, "audited" for them with
# one percent of shards and sums audited ("star sliced", alternately).
# Seconds, the steps with all workers, and what passes the coordinator are of the steps after the first three. EPOCHS of
# 10 steps (3; of 20 for `cnn`), AUDIT percent of shards in the first two (0). With BESIDE=yes the coordinator is on the
# first worker's host, and what passes the coordinator is what passes that host. COMPRESSION is the spec's
# `train.compression` (none). The digest must be that of `convoy train`,
# and `convoy audit` must find every sample once. "Computing, then carrying" is what a step would take that hides nothing of
# one behind the other: in a star with the bytes that passed the coordinator's link, in a sliced exchange with what each
# worker sends (of n nodes a worker, W workers and G bytes: (n (W - 1) / W + 1) G). DDP: its medians with buckets of 25
# and 4 MB, just before; DDP=no leaves it out. A row with more than 60 % of the cores in use measures them, and not the
# network.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# = 0 ]; then
    "$0" mid 250mbit 2 4 8
    "$0" cnn 250mbit 2 4 8
    exec "$0" fat 1gbit 2 4 8
fi
kind=$1 rate=${2:-250mbit}
shift $(($# < 2 ? $# : 2))
[ $# -gt 0 ] || set -- 2 4 8
if [ -z "${CONVOY:-}" ]; then
    cargo build --quiet --release -p convoy
    CONVOY=$PWD/target/release/convoy
fi
[ "${DDP:-yes}" = no ] || . bench/python.sh
convoy=$(realpath "$CONVOY") table=$PWD/bench/net.py ddp=$PWD/bench/net_ddp.py python=$(realpath -s "${python:-python3}")
. bench/namespaces.sh
work=$(mktemp -d)
trap 'stop; rm -rf "$work"' EXIT
cd "$work"
python3 "$table" data data
batch=128 shard=16
mlp() { echo "{type=\"avg_pool\", kernel=$1}, {type=\"flatten\"}, {type=\"linear\", out=$2}, {type=\"relu\"}"; }
case $kind in
mid) layers=$(mlp 4 13800) ;;
fat) layers=$(mlp 2 14500) ;;
cnn)
    batch=${BATCH:-64} layers=
    shard=$((batch / 8))
    for width in 64 128 256; do
        conv="{type=\"conv\", out=$width, kernel=3, padding=1}, {type=\"relu\"}"
        layers+="$conv, $conv, {type=\"max_pool\", kernel=2}, "
    done
    layers+='{type="flatten"}, {type="linear", out=384}, {type="relu"}'
    ;;
*) echo "mid, fat or cnn, not $kind" >&2; exit 2 ;;
esac
cat >spec.toml <<EOF
name = "$kind"
[data]
train = "data/train-images-idx4-ubyte"
format = "idx"
validation_fraction = 0
[network]
layers = [$layers, {type="linear", out=10}]
[optimizer]
kind = "sgd"
lr = 0.001
momentum = 0.9
[schedule]
kind = "constant"
[train]
epochs = ${EPOCHS:-3}
${COMPRESSION:+compression = \"$COMPRESSION\"}
batch = $batch
shard = $shard
[checkpoint]
every_seconds = 0
EOF
export CONVOY_HOME=$work/admin CONVOY_CACHE=$work/cache
"$convoy" train spec.toml --out alone --json >alone.json 2>alone.log

# The median of DDP's steps: WORKERS BUCKET_MB.
ddp_seconds() {
    local i rank
    for ((rank = $1 - 1; rank >= 0; rank--)); do
        i=$((rank + 1))
        ip netns exec "$net-w$i" "$python" "$ddp" "$kind" "$rank" "$1" "$2" 10.99.0.11 2>>"$dir/ddp.log" &
    done | tail -1
}

# One run: WORKERS EXCHANGE.
measure() {
    local workers=$1 exchange=$2 how peers=()
    dir=$work/$workers-$exchange
    mkdir "$dir"
    case $exchange in
    star) how=(--exchange star --audit "${AUDIT:-0}") ;;
    sliced) how=(--audit "${AUDIT:-0}") peers=(--peer-listen 0.0.0.0:7071) ;;
    audited) how=(--audit 1) peers=(--peer-listen 0.0.0.0:7071) ;;
    *) echo "star, sliced or audited, not $exchange" >&2; exit 2 ;;
    esac
    open_bridge "cvy$$-$workers"
    local c=c at=10.99.0.1
    if [ "${BESIDE:-no}" = yes ]; then c=w1 at=10.99.0.11; else join_bridge c 1; fi
    for i in $(seq "$workers"); do join_bridge "w$i" $((10 + i)); done
    local ddp_took=-
    if [ "${DDP:-yes}" != no ] && [ "$workers" -gt 1 ]; then
        ddp_took="$(ddp_seconds "$workers" 25), $(ddp_seconds "$workers" 4)"
    fi
    export CONVOY_HOME=$dir/admin
    "$convoy" cluster init --state "$dir/state" --host $at --coordinator $at:7070 >"$dir/init.log"
    at_coordinator=(ip netns exec "$net-$c")
    # `exec` keeps the process, so that its number is that of the coordinator.
    RUST_LOG=info,convoy_coordinator=debug "${at_coordinator[@]}" "$convoy" coordinator --state "$dir/state" \
        --listen $at:7070 "${how[@]}" --log json 2>"$dir/coordinator.log" &
    pids+=($!)
    until "${at_coordinator[@]}" "$convoy" health >/dev/null 2>&1; do sleep 0.2; done
    "${at_coordinator[@]}" "$convoy" token create --role worker --ttl 1h --uses 0 >"$dir/token"
    for i in $(seq "$workers"); do
        CONVOY_HOME=$dir/home$i CONVOY_CACHE=$dir/cache$i RUST_LOG="${WORKER_LOG:-info}" ip netns exec "$net-w$i" "$convoy" worker --log json \
            --coordinator $at:7070 --token-file "$dir/token" --threads 1 --name "w$i" "${peers[@]}" 2>"$dir/w$i.log" &
        pids+=($!)
    done
    before=$(used) begun=$(date +%s%N)
    # What passes from the fourth step on: before that, all workers fetch everything once.
    (
        until grep -q '"message":"committed","step":3,' "$dir/coordinator.log"; do sleep 0.02; done
        carried "$c" >"$dir/before"
    ) &
    "${at_coordinator[@]}" "$convoy" submit spec.toml --min-workers "$workers" --json >"$dir/job.json" 2>"$dir/job.log"
    after=$(used) ended=$(date +%s%N)
    read -r received sent <"$dir/before"
    read -r received_then sent_then < <(carried "$c")
    run=$(dirname "$(find "$dir/state" -name journal)")
    ledger=$("$convoy" audit "$run" --json | grep -q '"exact": *true' && echo exact || echo WRONG)
    python3 "$table" row "$rate, $workers, $exchange" "$workers" "$dir/coordinator.log" "$run" alone \
        "$(((after - before) * 10000000 * 100 / 2 / (ended - begun)))" "$ledger" \
        "$((received_then - received))" "$((sent_then - sent))" "$ddp_took"
    [ -z "${KEEP:-}" ] || cp -r "$dir" "$KEEP"
    stop
}
printf '| link, workers, exchange | s/step (median, mean) | computing, then carrying | nodes a step | steps with all workers | shards of each, percent |'
printf ' audits of nodes, and of sums | late | copies lost | put out | coordinator, MB a step in/out | cores, percent | digest | ledger | DDP s/step |'
printf '\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n'
for workers in "$@"; do
    for exchange in ${EXCHANGE:-star sliced}; do measure "$workers" "$exchange"; done
done
