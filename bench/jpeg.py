"""Called by bench/jpeg.sh: makes the photographs of each case, then measures all sides in turn."""

import pathlib
import statistics
import subprocess
import sys
import time

import torch
from PIL import Image
from torchvision.io import decode_jpeg, read_file
from torchvision.transforms import v2

ours, flowers, data, rounds = sys.argv[1], *map(pathlib.Path, sys.argv[2:4]), int(sys.argv[4])
torch.set_num_threads(1)


def photographs():
    """Those of about 500 x 375."""
    files = sorted(flowers.glob("*/*/*.jpg"))
    return [file for file in files if 480 <= max(Image.open(file).size) <= 520]


def copied(folder):
    for number, file in enumerate(photographs()):
        (folder / f"{number}.jpg").write_bytes(file.read_bytes())


def tiled(folder):
    """Four different photographs side by side, 1000 x 750, saved as cameras and sites do (4:2:0, quality 90)."""
    images = [Image.open(file).convert("RGB").resize((500, 375)) for file in photographs()]
    for number in range(len(images)):
        whole = Image.new("RGB", (1000, 750))
        for part in range(4):
            whole.paste(images[(number + 7 * part) % len(images)], (part % 2 * 500, part // 2 * 375))
        whole.save(folder / f"{number}.jpg", quality=90, subsampling="4:2:0")


def transforms(size, *first):
    crop = v2.RandomResizedCrop(size, antialias=True)
    normalise = v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return v2.Compose([crop, v2.RandomHorizontalFlip(), *first, v2.ToDtype(torch.float32, scale=True), normalise])


def by_tensors(files, size):
    change = transforms(size)
    return lambda: [change(decode_jpeg(read_file(str(file)))) for file in files]


def by_pillow(files, size):
    change = transforms(size, v2.ToImage())
    return lambda: [change(Image.open(file).convert("RGB")) for file in files]


def rate(files, run):
    start = time.perf_counter()
    run()
    return len(files) / (time.perf_counter() - start)


def by_us(folder, size):
    lines = subprocess.run([ours, folder.parent.parent, str(size)], check=True, capture_output=True, text=True).stdout
    return max(map(float, lines.split()))


for name, make, size in [("500x375 to 224", copied, 224), ("500x375 to 112", copied, 112), ("1000x750 to 224", tiled, 224)]:
    folder = data / make.__name__ / "train" / "all"
    if not folder.exists():
        folder.mkdir(parents=True)
        (folder.parent / "none").mkdir()
        make(folder)
        (folder / "0.jpg").rename(folder.parent / "none" / "0.jpg")
    files = sorted(folder.parent.glob("*/*.jpg"))
    tensors, pillow = by_tensors(files, size), by_pillow(files, size)
    sides = {"convoy": [], "torchvision, tensors": [], "torchvision, Pillow": []}
    for _ in range(rounds):
        sides["convoy"].append(by_us(folder, size))
        sides["torchvision, tensors"].append(max(rate(files, tensors) for _ in range(3)))
        sides["torchvision, Pillow"].append(max(rate(files, pillow) for _ in range(3)))
    for side, rates in sides.items():
        middle, fastest = statistics.median(rates), max(rates)
        print(f"{name:16} {side:21} images/s: median {middle:6.0f}, fastest {fastest:6.0f}")
    best = [max(*pair) for pair in zip(sides["torchvision, tensors"], sides["torchvision, Pillow"])]
    ratio = statistics.median(us / other for us, other in zip(sides["convoy"], best))
    fastest = max(sides["convoy"]) / max(best)
    print(f"{name:16} convoy / the better of the others: median of rounds {ratio:.2f}, fastest {fastest:.2f}", flush=True)
