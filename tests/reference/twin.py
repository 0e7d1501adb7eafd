"""The PyTorch twin of a job: same network, recipe and data, as someone would write it in PyTorch.

    convoy spec examples/fashion-mnist.toml --json | python tests/reference/twin.py --seeds 1 2 3
    convoy spec examples/photos.toml --set data.train=DIR --json | python tests/reference/twin.py --seeds 1 2 3

Reads a spec from standard input, trains once for each seed and prints one JSON object: top-1 on the validation data and
seconds of training for each, their means, and the seconds of loading before, in which images are read, decoded and
measured. Knows what the examples and benchmarks use, and refuses the rest. Needs torch, torchvision and Pillow. Batch
norms see whole batches here; they see shards in Convoy. `--workers N` leaves augmentation to N processes of a DataLoader;
with 0 it is done between steps, of whole batches where a flip is all there is.
"""

import argparse
import gzip
import json
import math
import pathlib
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image, ImageOps
from torch import nn
from torchvision.transforms import v2


def read_idx(path):
    """An IDX file, gzipped or not."""
    if not path.exists():
        path = path.with_name(path.name + ".gz")
    data = (gzip.open if path.suffix == ".gz" else open)(path, "rb").read()
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape).copy())


def idx_data(folder):
    """Grey images as [n, 1, h, w] bytes, with their classes."""
    parts = {}
    for name, prefix in [("train", "train"), ("validation", "t10k")]:
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte").unsqueeze(1)
        parts[name] = images, read_idx(folder / f"{prefix}-labels-idx1-ubyte").long()
    return parts


def folder_data(folder):
    """Colour images, upright, of any size, with their classes."""
    parts = {}
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    for name, sub in [("train", "train"), ("validation", "val")]:
        images, labels = [], []
        for label, kind in enumerate(classes):
            for path in sorted((folder / sub / kind).iterdir()):
                picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
                images.append(v2.functional.pil_to_tensor(picture))
                labels.append(label)
        parts[name] = images, torch.tensor(labels)
    return parts


def as_is(spec, image):
    """Resized as in validation."""
    if spec["prepare"]["size"] == "auto":
        return image
    size = list(spec["prepare"]["size"])
    return v2.functional.center_crop(v2.functional.resize(image, min(size), antialias=True), size)


def augmentation(spec):
    """The spec's augmentation of one image, bytes in and out."""
    augment, steps = spec["augment"], []
    size = spec["prepare"]["size"]
    if augment.get("random_resized_crop"):
        steps.append(v2.RandomResizedCrop(size, scale=augment["random_resized_crop"], antialias=True))
    else:
        steps.append(v2.Lambda(lambda image: as_is(spec, image)))
    if augment["horizontal_flip"]:
        steps.append(v2.RandomHorizontalFlip(augment["horizontal_flip"]))
    if augment["crop_padding"]:
        pad = augment["crop_padding"]
        steps.append(v2.Lambda(lambda image: v2.functional.crop(
            F.pad(image, [pad] * 4), *torch.randint(0, 2 * pad + 1, (2,)).tolist(), *image.shape[-2:])))
    colour = {key: augment[key] for key in ["brightness", "contrast", "saturation", "hue"]}
    if any(colour.values()):
        steps.append(v2.ColorJitter(**colour))
    for key in ["vertical_flip", "rotate", "erase"]:
        assert not augment[key], f"augment.{key} has no twin"
    return v2.Compose(steps)


class SimpleCnn(nn.Module):
    """`simple-cnn` of Convoy."""

    def __init__(self, channels, classes):
        super().__init__()
        widths, layers = [channels, 32, 32, 64, 64, 128], []
        for index, (narrow, wide) in enumerate(zip(widths, widths[1:])):
            layers += [nn.Conv2d(narrow, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
            if index in (1, 3):
                layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(128, classes)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        return self.fc(self.layers(x).mean((2, 3)))


def network(spec, channels, classes):
    name = spec["network"]["name"]
    if name == "simple-cnn":
        return SimpleCnn(channels, classes)
    net = getattr(torchvision.models, name.removesuffix("-small"))(num_classes=classes)
    if name.endswith("-small"):
        net.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        net.maxpool = nn.Identity()
    return net


def optimizer(spec, net, steps, steps_per_epoch):
    """The optimizer and its schedule; no decay on norms and biases."""
    given = spec["optimizer"]
    groups = [
        {"params": [p for p in net.parameters() if p.dim() > 1], "weight_decay": given["weight_decay"]},
        {"params": [p for p in net.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if given["kind"] == "sgd":
        chosen = torch.optim.SGD(groups, given["lr"], momentum=given["momentum"], nesterov=given["nesterov"],
                                 fused=True)
    else:
        chosen = torch.optim.AdamW(groups, given["lr"], fused=True)
    kind, warmup = spec["schedule"]["kind"], spec["schedule"]["warmup_epochs"] * steps_per_epoch
    if kind == "one_cycle":
        return chosen, torch.optim.lr_scheduler.OneCycleLR(chosen, given["lr"], steps, cycle_momentum=False)
    assert kind == "cosine", f"schedule.kind = {kind} has no twin"

    def rate(step):
        done = min(max((step - warmup) / max(steps - warmup, 1), 0), 1)
        return min((step + 1) / max(warmup, 1), 1) * 0.5 * (1 + math.cos(math.pi * done))

    return chosen, torch.optim.lr_scheduler.LambdaLR(chosen, rate)


class Augmented(torch.utils.data.Dataset):
    """Training images, changed anew each time."""

    def __init__(self, spec, images, labels):
        self.images, self.labels, self.change = images, labels, augmentation(spec)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, sample):
        return self.change(self.images[sample]), self.labels[sample]


def batches(spec, data, workers):
    """A function that gives the batches of an epoch, in random order: bytes and classes."""
    batch, flip = spec["train"]["batch"], spec["augment"]["horizontal_flip"]
    if workers:
        loader = torch.utils.data.DataLoader(
            data, batch, shuffle=True, num_workers=workers, persistent_workers=True, multiprocessing_context="fork")
        return lambda: loader
    changes = [key for key, value in spec["augment"].items() if value and key not in ("horizontal_flip", "crop_aspect")]
    whole = spec["prepare"]["size"] == "auto" and not changes

    def epoch():
        for samples in torch.randperm(len(data)).split(batch):
            if whole:
                flipped = torch.rand(len(samples), 1, 1, 1) < flip
                x = data.images[samples]
                yield torch.where(flipped, x.flip(-1), x), data.labels[samples]
            else:
                yield torch.stack([data[sample][0] for sample in samples]), data.labels[samples]

    return epoch


def prepared(spec, parts):
    """Training data, validation data as the network sees it, and what turns bytes into that."""
    images, labels = parts["train"]
    still = torch.stack([as_is(spec, image) for image in images]).float() / 255
    mean, std = still.mean((0, 2, 3), keepdim=True), still.std((0, 2, 3), keepdim=True, unbiased=False)

    def seen(x):
        return x.float().sub_(255 * mean).div_(255 * std).contiguous(memory_format=torch.channels_last)

    held_out, truth = parts["validation"]
    held_out = seen(torch.stack([as_is(spec, image) for image in held_out]))
    return Augmented(spec, images, labels), (held_out, truth), seen


def train(spec, prepared, seed, workers, bf16):
    """Top-1 on the validation data after training, and seconds of training."""
    torch.manual_seed(seed)
    data, (held_out, truth), seen = prepared
    net = network(spec, held_out.shape[1], int(data.labels.max()) + 1).to(memory_format=torch.channels_last)
    epochs, steps_per_epoch = spec["train"]["epochs"], math.ceil(len(data) / spec["train"]["batch"])
    chosen, schedule = optimizer(spec, net, epochs * steps_per_epoch, steps_per_epoch)
    start = time.perf_counter()
    epoch_of = batches(spec, data, workers)
    for epoch in range(epochs):
        net.train()
        for x, y in epoch_of():
            chosen.zero_grad(set_to_none=True)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(net(seen(x)), y)
            loss.backward()
            chosen.step()
            schedule.step()
        net.eval()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            parts = zip(held_out.split(256), truth.split(256))
            hits = sum((net(x).argmax(1) == y).sum().item() for x, y in parts)
        print(f"seed {seed} epoch {epoch + 1} top1 {hits / len(truth):.4f}", file=sys.stderr)
    return hits / len(truth), time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="forward passes under autocast with bfloat16")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    spec = json.load(sys.stdin)
    folder = pathlib.Path(spec["data"]["train"])
    start = time.perf_counter()
    parts = idx_data(folder) if list(folder.glob("*-idx3-ubyte*")) else folder_data(folder)
    ready = prepared(spec, parts)
    loading = time.perf_counter() - start
    results = [train(spec, ready, seed, args.workers, args.bf16) for seed in args.seeds]
    top1, seconds = [[round(r[i], 4) for r in results] for i in (0, 1)]
    mean = {"top1": sum(top1) / len(top1), "seconds": sum(seconds) / len(seconds)}
    print(json.dumps({"torch": torch.__version__, "seeds": args.seeds, "top1": top1, "seconds": seconds,
                      "loading_seconds": round(loading, 4), "mean": mean}))


if __name__ == "__main__":
    main()
