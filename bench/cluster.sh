#!/usr/bin/env bash
# A coordinator and two workers of one thread on loopback, and the same cores in one process, in turn: images/s of both,
# milliseconds of the cores for each step by process and thread, milliseconds of the stages by the clock, peak memory.
#
#     bench/cluster.sh [ROUNDS [EPOCHS]]
#
# Synthetic images of 32x32, resnet18-small, batches of 128 in shards of 32, 10 steps an epoch. TLS=1 encrypts, AUDIT=1
# has one percent of the shards computed twice.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-2} epochs=${2:-3}
cargo build --quiet --release -p convoy
convoy=$PWD/target/release/convoy
work=$(mktemp -d)
pids=()
stop() { kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; }
trap 'stop; rm -rf "$work"' EXIT
cd "$work"
export CONVOY_HOME=$work/admin CONVOY_CACHE=$work/cache
mkdir data
be32() { printf '%b' "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 >> 24)) $(($1 >> 16 & 255)) $(($1 >> 8 & 255)) $(($1 & 255)))"; }
{ be32 0x804; be32 1280; be32 32; be32 32; be32 3; head -c $((1280 * 3072)) /dev/urandom; } >data/train-images-idx4-ubyte
{ be32 0x801; be32 1280; for _ in $(seq 128); do printf '\0\1\2\3\4\5\6\7\10\11'; done; } >data/train-labels-idx1-ubyte
cat >spec.toml <<EOF
name = "cluster"
[data]
train = "data/train-images-idx4-ubyte"
format = "idx"
validation_fraction = 0
[network]
name = "resnet18-small"
[optimizer]
kind = "sgd"
lr = 0.01
[train]
epochs = $epochs
batch = 128
shard = 32
[checkpoint]
every_seconds = 0
EOF

# Hundredths of seconds of each kind of thread: NAME USER SYSTEM.
threads() {
    cat "/proc/$1"/task/*/stat 2>/dev/null | sed 's/^[0-9]* (\(.*\)) . /\1 /; s/^\([^ ]*\) \([^0-9-]\)/\1_\2/' |
        awk '{user[$1] += $(NF-38); sys[$1] += $(NF-37)} END {for (name in user) print name, user[name], sys[name]}' || true
}
peak() { awk '/VmHWM/ {printf "%d MB\n", $2 / 1000}' "/proc/$1/status"; }
steps_done() { grep -o '"step":[0-9]*,"tree"' "$1" 2>/dev/null | tail -n 1 | tr -dc 0-9 || true; }

# Cores between the fourth step and the last but one.
carry() {
    local name=$1 address=127.0.0.1:7187 c a b
    local audit=0; [ "${AUDIT:-0}" = 0 ] || audit=1
    local quiet=(env RUST_LOG=convoy_coordinator::stages=debug,convoy_worker::stages=debug)
    if [ "${TLS:-0}" = 0 ]; then
        "${quiet[@]}" "$convoy" coordinator spec.toml --listen $address --audit $audit --log json --json --out "run-$name" >"$name.json" 2>"$name.log" & c=$!
        "${quiet[@]}" "$convoy" worker --coordinator $address --threads 1 --name a --log json 2>"$name-a.log" & a=$!
        "${quiet[@]}" "$convoy" worker --coordinator $address --threads 1 --name b --log json 2>"$name-b.log" & b=$!
    else
        [ -d state ] || "$convoy" cluster init --state state --coordinator $address >/dev/null
        "${quiet[@]}" "$convoy" coordinator --state state --data . --listen $address --audit $audit --log json 2>"$name.log" & c=$!
        until "$convoy" health >/dev/null 2>&1; do sleep 0.1; done
        "$convoy" token create --role worker --ttl 1h --uses 0 >token
        "${quiet[@]}" "$convoy" worker --coordinator $address --token-file token --threads 1 --name a --log json 2>"$name-a.log" & a=$!
        "${quiet[@]}" "$convoy" worker --coordinator $address --token-file token --threads 1 --name b --log json 2>"$name-b.log" & b=$!
        "$convoy" submit spec.toml --detach --set 'data.train="shared:data/train-images-idx4-ubyte"' >/dev/null
    fi
    pids=("$c" "$a" "$b")
    local last=$((epochs * 10 - 2)) done from
    until done=$(steps_done "$name.log") && [ "${done:-0}" -ge 3 ]; do kill -0 "$c"; sleep 0.05; done
    from=$done
    local began=$EPOCHREALTIME
    for p in "$c" "$a" "$b"; do threads "$p" >"before-$p"; done
    until done=$(steps_done "$name.log") && [ "${done:-0}" -ge "$last" ]; do kill -0 "$c"; sleep 0.05; done
    local ended=$EPOCHREALTIME
    for p in "$c" "$a" "$b"; do threads "$p" >"after-$p"; done
    awk -v n=$((done - from)) -v t0="${began/,/.}" -v t1="${ended/,/.}" 'BEGIN {printf "cluster   %7.1f images/s\n", 128 * n / (t1 - t0)}'
    for p in "$c" "$a" "$b"; do
        local who=coordinator; [ "$p" = "$c" ] || who=worker
        echo "  $who, peak memory $(peak "$p"); ms of the cores for each step, in the program and in the kernel:"
        awk -v n=$((done - from)) 'NR == FNR {u[$1] = $2; s[$1] = $3; next}
            {user = ($2 - u[$1]) * 10 / n; sys = ($3 - s[$1]) * 10 / n; if (user + sys >= 0.5) printf "    %-14s %7.1f %7.1f\n", $1, user, sys}' \
            "before-$p" "after-$p" | sort -k1,1
    done
    stop
    pids=()
    echo "  stages by the clock, mean ms: of each step at the coordinator; of each time a worker does it:"
    grep -h '"digest":' "$name.log" | sed 's/[{}"]/ /g; s/[:,]/ /g' |
        awk '{for (i = 1; i < NF; i++) if ($i ~ /^(tree|optimizer|digest)$/) {t[$i] += $(i+1); n[$i]++}} END {for (s in t) printf "    coordinator %-10s %7.1f\n", s, t[s] / n[s]}' | sort
    cat "$name-a.log" "$name-b.log" | sed -n 's/.*"stage":"\([a-z]*\)".*"ms":\([0-9.]*\).*/\1 \2/p' |
        awk '{t[$1] += $2; n[$1]++} END {for (s in t) printf "    worker      %-10s %7.1f  %6d times\n", s, t[s] / n[s], n[s]}' | sort
}

alone() {
    "$convoy" train spec.toml --workers 1 --threads 2 --json --out "run-$1" 2>/dev/null | tail -n 1 |
        sed 's/.*"images_per_second":\([0-9.]*\).*/\1/' | awk '{printf "one process %5.1f images/s\n", $1}'
}

for round in $(seq "$rounds"); do
    carry "cluster-$round"
    alone "alone-$round"
done | tee report
awk '/^cluster/ {if ($2 > c) c = $2} /^one process/ {if ($3 > a) a = $3}
    END {printf "best of each: cluster %.1f, one process %.1f images/s, %.1f %%\n", c, a, 100 * c / a}' report
