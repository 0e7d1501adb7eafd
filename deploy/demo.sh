#!/usr/bin/env bash
# The whole walk-through on this machine: builds the image, starts a cluster with three workers, submits the example,
# kills a worker, adds two, kills the coordinator in mid-epoch and starts it again, fetches the model, takes all down.
# With --json, standard output is the JSON object of the run alone; its parameters_digest is that of
# `convoy train examples/fashion-mnist.toml`. With CONVOY_IMAGE=NAME, that image is used and none is built.
set -euo pipefail
cd "$(dirname "$0")/.."
json=false
[ "${1:-}" = --json ] && json=true

say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }
if command -v docker-compose >/dev/null; then tool=(docker-compose); else tool=(docker compose); fi
export COMPOSE_PROJECT_NAME="convoydemo$$" CONVOY_PORT=${CONVOY_PORT:-17070} CONVOY_THREADS=1
compose() { "${tool[@]}" -f deploy/docker-compose.yml "$@" </dev/null >&2; }

work=$(mktemp -d)
finish() {
    local code=$?
    [ $code = 0 ] || compose logs --tail=40 || true
    say "taking everything down"
    compose down --volumes --remove-orphans --timeout 5 || true
    rm -rf "$work"
}
trap finish EXIT

say "the image"
[ -n "${CONVOY_IMAGE:-}" ] || deploy/images.sh
box=$(docker create "${CONVOY_IMAGE:-convoy:latest}")
docker cp "$box:/usr/local/bin/convoy" "$work/convoy" >&2
docker rm "$box" >&2
convoy() { env -u CONVOY_COORDINATOR CONVOY_HOME="$work/home" "$work/convoy" "$@"; }

# The value of a field of the job's record.
field() { convoy ls --json | tail -n 1 | python3 -c "
import json, sys
value = json.loads(sys.stdin.readline() or '{}')
for key in '$1'.split('.'):
    value = (value or {}).get(key)
print(0 if value is None else value)"; }

# Waits until step $1 is committed.
reach() {
    local until=$((SECONDS + 300))
    while [ "$(field status.step)" -lt "$1" ] && [ "$(field state)" != completed ]; do
        [ $SECONDS -lt $until ] || { say "step $1 was not reached in time"; exit 1; }
        sleep 0.2
    done
}

say "a cluster with three workers"
compose up -d --no-build --scale worker=3
until="$((SECONDS + 60))"
until "${tool[@]}" -f deploy/docker-compose.yml exec -T coordinator convoy health </dev/null >/dev/null 2>&1; do
    [ $SECONDS -lt "$until" ] || { say "the coordinator does not answer"; exit 1; }
    sleep 0.2
done

say "this machine joins as a submitter"
"${tool[@]}" -f deploy/docker-compose.yml exec -T coordinator convoy token create --role submitter </dev/null \
    | convoy login "127.0.0.1:$CONVOY_PORT" --token-file - >&2

say "convoy submit examples/fashion-mnist.toml"
convoy submit examples/fashion-mnist.toml --detach >&2
reach 100

say "one worker is killed"
docker kill "$("${tool[@]}" -f deploy/docker-compose.yml ps -q worker | head -n 1)" >&2
reach 150

say "two more workers"
compose up -d --no-build --no-recreate --scale worker=5
reach 300

say "the coordinator is killed in mid-epoch, and started again"
compose kill coordinator
compose up -d --no-build --no-recreate --scale worker=5
convoy ls >&2 || true

say "convoy watch"
convoy watch last --json >"$work/result.json"
say "convoy get last --out $work/run"
convoy get last --out "$work/run" >&2
convoy digest "$work/run/model" >&2

# The record's last line; the run's own object is in it.
tail -n 1 "$work/result.json" | python3 -c "
import json, sys
job = json.loads(sys.stdin.readline())
result = job['result']
if '$json' == 'true':
    print(json.dumps(result))
else:
    print('parameters', result['parameters_digest'])"
