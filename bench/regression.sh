#!/usr/bin/env bash
# Errors of regressions on the cells of BCCD, three seeds each, beside those of always predicting the training mean.
#
#     bench/regression.sh BCCD
#
# BCCD is a folder with train.csv, val.csv and test.csv (image, rbc, ...). Trained are bench/specs/bccd-rbc.toml; the
# table without a spec; and without a spec the table with 15 times the counts, which splits off its own validation data.
# CONVOY names a binary that is built already, THREADS how many threads compute (2), SEEDS other seeds.
set -euo pipefail
cd "$(dirname "$0")/.."
data=$(realpath "$1")
convoy=${CONVOY:-target/release/convoy}
if [ -z "${CONVOY:-}" ]; then cargo build --quiet --release -p convoy; fi
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
for part in train test; do
    awk -F, -v OFS=, -v dir="$data" 'NR == 1 { print "image", "rbc"; next } { print dir "/" $1, 15 * $2 }' \
        "$data/$part.csv" >"$runs/$part-15.csv"
done

# run NAME TEST.csv JOB [SETTING]...: trains and prints a line for each seed.
run() {
    local name=$1 test=$2 job=$3
    shift 3
    for seed in ${SEEDS:-1 2 3}; do
        local out=$runs/$name-$seed
        $convoy train "$job" "$@" --set seed=$seed --threads "${THREADS:-2}" --out "$out" --json >"$out.json" \
            2>"$out.log" || { cat "$out.log"; exit 1; }
        local best=$out/model-best
        if [ ! -d "$best" ]; then best=$out/model; fi
        $convoy eval "$best" "$test" --json 2>"$out.log" >"$out.test.json" || { cat "$out.log"; exit 1; }
        python3 - "$name" $seed "$out.json" "$out.test.json" <<'PY'
import json, sys

name, seed, trained, tested = sys.argv[1:]
trained = json.loads(open(trained).read().splitlines()[-1])
show = lambda m: f"MAE {m['mae']:7.3f}  of the mean {m['mae_of_mean']:7.3f}  R2 {m['r2']:6.3f}"
print(f"{name:12} seed {seed}  last, validation: {show(trained['validation'])}  "
      f"best, test: {show(json.load(open(tested))['metrics'])}  {trained['seconds']:.0f} s", flush=True)
PY
    done
}

table=(--set 'data.path_column="image"' --set 'data.label_columns=["rbc"]')
validation=(--set "data.validation=\"$data/val.csv\"")
run spec "$data/test.csv" bench/specs/bccd-rbc.toml --set "data.train=\"$data/train.csv\"" "${validation[@]}"
run no-spec "$data/test.csv" "$data/train.csv" "${table[@]}" "${validation[@]}"
run no-spec-x15 "$runs/test-15.csv" "$runs/train-15.csv" "${table[@]}"
