"""The table of bench/step.sh for one spec: python bench/step_table.py FOLDER SPEC."""

import json
import pathlib
import statistics
import sys

folder, spec = pathlib.Path(sys.argv[1]), sys.argv[2]


def runs(side):
    path = folder / f"{spec}.{side}"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def figures(side):
    """Best and middle milliseconds of a step, images a second at best, MiB at most; nothing if there was no whole run."""
    results = runs(side)
    if not results or (folder / f"{spec}.{side}.failed").exists():
        return None
    batch = results[0]["batch"]
    if side == "convoy":
        best = min(run["step_ms"]["best"] for run in results)
        middle = statistics.median(run["step_ms"]["median"] for run in results)
    else:
        times = [ms for run in results for ms in run["step_ms"]]
        best, middle = min(times), statistics.median(times)
    return best, middle, 1e3 * batch / best, max(run["peak_memory_bytes"] for run in results) / 2**20


sides = {"convoy": "convoy", "eager": "torch eager", "ddp": "torch DDP", "compile": "torch compile"}
found = {side: figures(side) for side in sides}
convoy = runs("convoy")[0]
print(f"\n{spec}: batch {convoy['batch']}, {convoy['threads']} threads, {convoy['level']}; torch {runs('eager')[0]['torch']}")
print(f"{'':14}{'best ms':>10}{'median ms':>11}{'images/s':>10}{'MiB':>7}{'against convoy':>16}")
for side, name in sides.items():
    if found[side] is None:
        print(f"{name:14}{'failed':>10}")
        continue
    best, middle, rate, memory = found[side]
    print(f"{name:14}{best:10.1f}{middle:11.1f}{rate:10.1f}{memory:7.0f}{found['convoy'][0] / best:16.2f}")
fastest = min((found[side] for side in list(sides)[1:] if found[side]), default=None)
if fastest:
    print(f"convoy is {fastest[0] / found['convoy'][0]:.2f} times as fast as PyTorch at its best (best step to best step);"
          f" {100 * max(run['of_peak'] for run in runs('convoy')):.0f} % of this machine's peak")
