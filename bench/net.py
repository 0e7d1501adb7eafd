"""Made-up data for bench/net.sh, and a row of its table.

    net.py data DIR
    net.py row NAME WORKERS COORDINATOR_LOG RUN_FOLDER FOLDER_OF_TRAIN CORES_PERCENT LEDGER RECEIVED SENT DDP
"""

import json
import os
import statistics
import struct
import sys
from datetime import datetime

WARM_UP = 3


def data(folder):
    """1,280 pictures of 32x32x3 in MNIST's form."""
    os.makedirs(folder)
    with open(f"{folder}/train-images-idx4-ubyte", "wb") as images:
        images.write(struct.pack(">5I", 0x804, 1280, 32, 32, 3) + os.urandom(1280 * 3072))
    with open(f"{folder}/train-labels-idx1-ubyte", "wb") as labels:
        labels.write(struct.pack(">2I", 0x801, 1280) + bytes(i % 10 for i in range(1280)))


def lines(path):
    """The JSON objects of a file, one a line; a journal has a check before each."""
    with open(path) as file:
        for line in file:
            start = line.find("{")
            if start >= 0:
                yield json.loads(line[start:])


def digest(run):
    return [event["parameters_digest"] for event in lines(f"{run}/events.jsonl") if event["event"] == "finished"][-1]


def predicted(alone, link, workers, bytes_a_step):
    """Seconds of a step that computes, then carries so many bytes, one after the other."""
    run = list(lines(f"{alone}.json"))[-1]
    number, unit = int("".join(filter(str.isdigit, link))), link.lstrip("0123456789")
    rate = number * {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}[unit] / 8
    # `alone` has two threads, and so have all workers together.
    return run["seconds"] / run["steps"] * 2 / min(workers, 2) + bytes_a_step / rate


def row(name, workers, log, run, alone, cores, ledger, received, sent, ddp):
    commits, copies, late, silent = [], 0, 0, 0
    for line in lines(log):
        fields = line.get("fields", line)
        message = fields.get("message", "")
        if message == "committed":
            commits.append(datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00")).timestamp())
        copies += message == "lease revoked" and "AnotherWasFirst" in str(fields.get("why"))
        late += message.startswith("late;")
    ledgers, shards, audited_owners = [], {}, 0
    for record in lines(f"{run}/journal"):
        silent += record["record"] == "worker_left" and record["reason"] == "silent"
        if record["record"] == "step_committed":
            ledgers.append(record["ledger"])
            audited_owners += len(ledgers) > WARM_UP and len(record.get("audited_owners", []))
    for entry in (entry for step in ledgers for entry in step):
        shards[entry[2]] = shards.get(entry[2], 0) + entry[1] - entry[0]
    seconds = [after - before for before, after in zip(commits[WARM_UP:], commits[WARM_UP + 1 :])]
    settled = ledgers[WARM_UP:]
    audits = sum(len(entry) > 3 for step in settled for entry in step), audited_owners
    full = sum(len({entry[2] for entry in step}) == int(workers) for step in settled)
    share = "/".join(str(round(100 * count / sum(shards.values()))) for count in shards.values())
    equal = "equal" if digest(run) == digest(alone) else "OTHER"
    nodes = sum(map(len, ledgers)) / len(ledgers)
    # From the commit of step 3 on. What a coordinator of owners gets is each sum once.
    later = len(ledgers) - WARM_UP - 1
    received, sent, count = int(received) / later, int(sent) / later, int(workers)
    sliced = received * (nodes / count * (count - 1) / count + 1)
    passed = received + sent if name.endswith("star") else sliced
    model = predicted(alone, name.split(",")[0], count, passed)
    carried = "/".join(f"{size / 1e6:.1f}" for size in (received, sent))
    print(
        f"| {name} | {statistics.median(seconds):.3f}, {statistics.mean(seconds):.3f} | {model:.2f} | {nodes:.1f} | {full} of {len(settled)} | {share} | {audits[0]}+{audits[1]} | {late} "
        f"| {copies} | {silent} | {carried} | {cores} | {equal} | {ledger} | {ddp} |",
        flush=True,
    )


if __name__ == "__main__":
    {"data": data, "row": row}[sys.argv[1]](*sys.argv[2:])
