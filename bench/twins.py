"""Training steps of the networks in bench/specs/ in PyTorch, at its best on a plain CPU.

    python bench/twins.py vgg-like-32 --variant eager --steps 10

Prints a JSON object: milliseconds of each step and the most memory (RSS, all processes). A step is forward, cross
entropy, backward and SGD with momentum on a batch of noise that is in memory, in channels_last. Variants:

    eager     one process with all threads
    ddp       a process with one thread for each core, DistributedDataParallel over gloo, a share of the batch each
    compile   as eager, with torch.compile, which needs a C++ compiler

--bf16 computes forward and loss under torch.autocast with bfloat16. bench/step.sh sets the environment that goes with
it. Needs torch and torchvision.
"""

import argparse
import json
import os
import resource
import time

import torch
import torch.nn.functional as F
import torchvision
from torch import nn


def vgg_like(classes):
    """`vgg-like-32`: twice 64, twice 128, twice 256 channels, with a pool behind each pair."""
    layers, narrow = [], 3
    for width in [64, 128, 256]:
        for _ in range(2):
            layers += [nn.Conv2d(narrow, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            narrow = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(narrow, classes))


def resnet18_small(classes):
    """`resnet18-small`: torchvision's ResNet-18 behind a 3x3 convolution of stride 1."""
    net = torchvision.models.resnet18(num_classes=classes)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


# Of each spec: network, height and width, classes, global batch.
TWINS = {
    "vgg-like-32": (vgg_like, 32, 10, 128),
    "resnet18-32": (resnet18_small, 32, 10, 128),
    "resnet50-224": (lambda classes: torchvision.models.resnet50(num_classes=classes), 224, 1000, 32),
    "mobilenetv2-96": (lambda classes: torchvision.models.mobilenet_v2(num_classes=classes), 96, 1000, 64),
}


def measure(args, parts=1):
    """Milliseconds of each step of this process, which computes one of `parts` parts of the batch."""
    twin, variant, warm_up, steps = args.twin, args.variant, args.warm_up, args.steps
    make, side, classes, batch = TWINS[twin]
    torch.manual_seed(1)
    net = make(classes).to(memory_format=torch.channels_last).train()
    count = batch // parts
    x = torch.randn(count, 3, side, side).contiguous(memory_format=torch.channels_last)
    y = torch.arange(count) % classes
    if parts > 1:
        net = nn.parallel.DistributedDataParallel(net, gradient_as_bucket_view=True, broadcast_buffers=False)
    if variant == "compile":
        net = torch.compile(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True)
    times = []
    for _ in range(warm_up + steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        times.append(1e3 * (time.perf_counter() - start))
    return times[warm_up:]


def max_rss():
    """The most memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def process(rank, port, queue, args):
    """One process of DDP."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(args.threads))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    times = measure(args, args.threads)
    queue.put((rank, times, max_rss()))
    torch.distributed.destroy_process_group()


def run(args):
    """Milliseconds of each step, and bytes of memory."""
    if args.variant != "ddp":
        torch.set_num_threads(args.threads)
        return measure(args), max_rss()
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    # A port that was free a moment ago.
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    port = store.port
    del store
    torch.multiprocessing.spawn(process, (port, queue, args), nprocs=args.threads)
    results = [queue.get() for _ in range(args.threads)]
    # All wait for all: a step takes as long as its slowest process.
    return [max(times) for times in zip(*(times for _, times, _ in results))], sum(rss for *_, rss in results)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("twin", choices=TWINS)
    parser.add_argument("--variant", choices=["eager", "ddp", "compile"], default="eager")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=3)
    args = parser.parse_args()
    times, memory = run(args)
    print(json.dumps({"torch": torch.__version__, "variant": args.variant, "batch": TWINS[args.twin][3],
                      "step_ms": times, "peak_memory_bytes": memory}))


if __name__ == "__main__":
    main()
