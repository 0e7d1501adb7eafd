#!/usr/bin/env python3
"""What the classes of arithmetic come to on the same jobs: the metric in validation after the last epoch, by seed.

    bench/numerics.py [--seeds 1,2,3,4,5] [--jobs NAME,...] [--classes cpu-f32-v1,cpu-bf16-v1]
    [--compression none|bf16] FASHION FLOWERS BCCD

FASHION has the four IDX files of Fashion-MNIST, FLOWERS class folders in train/ and val/, BCCD train.csv and val.csv.
CONVOY names the binary (target/release/convoy). A job is one of `fashion-1` and `fashion-10` (whole Fashion-MNIST, one
epoch and ten), `flowers` (the photographs of the examples) and `cells` (red blood cells counted). Bits depend on
neither threads nor machine, so neither does this table, but for the seconds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile


def jobs(fashion, flowers, bccd):
    """By name: the spec, what is set in it, the metric and what it is shown as."""
    full = "bench/specs/fashion-mnist-full.toml"
    return {
        "fashion-1": (full, {"data.train": fashion, "train.epochs": 1}, "top1", 100, "top-1, percent"),
        "fashion-10": (full, {"data.train": fashion}, "top1", 100, "top-1, percent"),
        "flowers": ("examples/photos.toml", {"data.train": flowers}, "top1", 100, "top-1, percent"),
        "cells": (
            "bench/specs/bccd-rbc.toml",
            {"data.train": f"{bccd}/train.csv", "data.validation": f"{bccd}/val.csv"},
            "mae",
            1,
            "mean absolute error",
        ),
    }


def train(convoy, spec, sets, out):
    command = [convoy, "train", spec, "--json", "--out", out]
    for key, value in sets.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--jobs", default="fashion-1,fashion-10,flowers,cells")
    parser.add_argument("--classes", default="cpu-f32-v1,cpu-bf16-v1")
    parser.add_argument("--compression", choices=["none", "bf16"], default="none")
    parser.add_argument("folders", nargs=3, metavar="FOLDER")
    arguments = parser.parse_args()
    folders = [os.path.realpath(folder) for folder in arguments.folders]
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    convoy = os.environ.get("CONVOY", "target/release/convoy")
    known = jobs(*folders)
    compression = arguments.compression
    wanted = arguments.jobs.split(",")
    if unknown := [job for job in wanted if job not in known]:
        parser.error(f"no such job: {', '.join(unknown)}; there are {', '.join(known)}")
    print("| job | class | mean | deviation | each seed | seconds |\n|---|---|---|---|---|---|", flush=True)
    for job in wanted:
        spec, sets, metric, factor, shown = known[job]
        for numerics in arguments.classes.split(","):
            found, seconds = [], []
            with tempfile.TemporaryDirectory() as runs:
                for seed in map(int, arguments.seeds.split(",")):
                    result = train(convoy, spec, {**sets, "seed": seed, "numerics": numerics, "train.compression": compression}, f"{runs}/{seed}")
                    found.append(factor * result["validation"][metric])
                    seconds.append(result["seconds"])
            deviation = statistics.stdev(found) if len(found) > 1 else 0
            each = ", ".join(f"{value:.2f}" for value in found)
            print(
                f"| {job} ({shown}) | {numerics} | {statistics.mean(found):.2f} | {deviation:.2f} | {each} "
                f"| {statistics.mean(seconds):.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
