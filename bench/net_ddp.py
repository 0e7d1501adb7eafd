"""PyTorch's DDP over gloo on the networks of bench/net.sh, one thread a process: seconds a step, the median.

    net_ddp.py KIND RANK WORLD BUCKET_MB ADDRESS_OF_RANK_0
"""

import os
import statistics
import sys
import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

WARM_UP, STEPS = 3, 12


def network(kind):
    """The network of bench/net.sh's spec of this kind, and the images of a step of all processes."""
    if kind == "cnn":
        blocks, channels = [], 3
        for width in (64, 128, 256):
            for _ in range(2):
                blocks += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            blocks.append(nn.MaxPool2d(2))
        return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(4096, 384), nn.ReLU(), nn.Linear(384, 10)), 64
    pool, width = {"mid": (4, 13800), "fat": (2, 14500)}[kind]
    features = 3 * (32 // pool) ** 2
    layers = nn.AvgPool2d(pool), nn.Flatten(), nn.Linear(features, width), nn.ReLU(), nn.Linear(width, 10)
    return nn.Sequential(*layers), 128


def main(kind, rank, world, bucket, address):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR=address, MASTER_PORT="29511", GLOO_SOCKET_IFNAME="e0")
    dist.init_process_group("gloo", rank=int(rank), world_size=int(world))
    model, images = network(kind)
    model = DistributedDataParallel(model, bucket_cap_mb=float(bucket))
    optimizer = torch.optim.SGD(model.parameters(), 0.001, momentum=0.9)
    mine = max(1, images // int(world))
    x, y = torch.randn(mine, 3, 32, 32), torch.randint(0, 10, (mine,))
    seconds = []
    for _ in range(WARM_UP + STEPS):
        begun = time.perf_counter()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begun)
    if rank == "0":
        print(f"{statistics.median(seconds[WARM_UP:]):.2f}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
