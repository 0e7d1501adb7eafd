"""The table of bench/step.sh for one spec: python bench/step_table.py FOLDER SPEC CLASS..."""

import json
import pathlib
import statistics
import sys

folder, spec, classes = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
TORCH = {"eager": "torch eager", "ddp": "torch DDP", "compile": "torch compile", "eager-bf16": "torch eager bf16",
         "compile-bf16": "torch compile bf16"}


def runs(side):
    path = folder / f"{spec}.{side}"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def figures(side):
    """Best and middle milliseconds of a step, images a second at best, most MiB; nothing if there was no whole run."""
    results = runs(side)
    if not results or (folder / f"{spec}.{side}.failed").exists():
        return None
    batch = results[0]["batch"]
    if side in classes:
        best = min(run["step_ms"]["best"] for run in results)
        middle = statistics.median(run["step_ms"]["median"] for run in results)
    else:
        times = [ms for run in results for ms in run["step_ms"]]
        best, middle = min(times), statistics.median(times)
    return best, middle, 1e3 * batch / best, max(run["peak_memory_bytes"] for run in results) / 2**20


sides = {name: f"convoy {name}" for name in classes} | TORCH
found = {side: figures(side) for side in sides}
fastest = min((found[side] for side in TORCH if found[side]), default=None)
convoy = runs(classes[0])[0]
torch = next((runs(side)[0]["torch"] for side in TORCH if found[side]), "none")
print(f"\n{spec}: batch {convoy['batch']}, {convoy['threads']} threads, {convoy['level']}; torch {torch}")
print(f"{'':20}{'best ms':>10}{'median ms':>11}{'images/s':>10}{'MiB':>7}{'of PyTorch at its best':>24}")
for side, name in sides.items():
    if found[side] is None:
        print(f"{name:20}{'failed':>10}")
        continue
    best, middle, rate, memory = found[side]
    ratio = f"{fastest[0] / best:24.2f}" if fastest else ""
    print(f"{name:20}{best:10.1f}{middle:11.1f}{rate:10.1f}{memory:7.0f}{ratio}")
for name in classes:
    fastest = max(runs(name), key=lambda run: run["of_peak"])
    print(f"convoy {name}: {100 * fastest['of_peak']:.0f} % of the {fastest['peak_gflops']:.0f} GFLOP/s that this machine "
          "makes of the class without memory")
