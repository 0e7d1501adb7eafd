"""Writes the images that the golden jobs train on, beside this file: `idx/` (MNIST's files, 8x8, three classes) and
`jpeg/` (photographs' formats: all subsamplings, grey, progressive, restart markers, turned by EXIF; sizes that differ),
with two tables over the same files.

With Pillow and numpy installed: python tests/golden/data/make.py
The files stand in the repository; another version of Pillow may write other bytes, and then other digests follow.
"""

import csv
import io
import pathlib
import struct

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent


def idx(name, count, seed):
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = random.integers(0, 97, (count, 8, 8))
    for image, label in zip(images, labels):
        at = random.integers(0, 6)
        if label == 0:
            image[:, at : at + 3] += 150
        elif label == 1:
            image[at : at + 3] += 150
        else:
            image[range(8), range(8)] += 150
    (HERE / "idx").mkdir(exist_ok=True)
    (HERE / "idx" / f"{name}-images-idx3-ubyte").write_bytes(
        struct.pack(">4I", 0x803, count, 8, 8) + images.astype(np.uint8).tobytes()
    )
    (HERE / "idx" / f"{name}-labels-idx1-ubyte").write_bytes(
        struct.pack(">2I", 0x801, count) + labels.astype(np.uint8).tobytes()
    )


TURNED = Image.Exif()
TURNED[0x0112] = 6
KINDS = [
    {"quality": 92, "subsampling": "4:4:4"},
    {"quality": 80, "subsampling": "4:2:2"},
    {"quality": 85, "subsampling": "4:2:0", "optimize": True},
    {"quality": 75, "subsampling": "4:2:0", "restart_marker_blocks": 5},
    {"quality": 80, "subsampling": "4:2:0", "progressive": True},
    {"quality": 80, "subsampling": "4:2:0", "exif": TURNED.tobytes()},
    {"quality": 75, "grey": True},
]


def picture(label, random):
    height, width = (int(side) for side in random.integers(36, 72, 2))
    y, x = np.mgrid[:height, :width]
    angle = random.uniform(0, np.pi)
    turn = x * np.cos(angle) + y * np.sin(angle)
    away = np.hypot(x - width / 2, y - height / 2)
    shape = [np.sin(turn / 3), np.sin(away / 3), np.sin(x / 4) * np.sin(y / 4)][label]
    planes = [128 + random.uniform(40, 100) * np.roll(shape, c, 0) for c in range(3)]
    noise = random.normal(0, 8, (height, width, 3))
    return Image.fromarray(np.clip(np.stack(planes, -1) + noise, 0, 255).astype(np.uint8)), (height, width)


def jpegs(split, count, random, rows):
    for number in range(count):
        label = number % 3
        image, (height, width) = picture(label, random)
        options = dict(KINDS[number % len(KINDS)])
        if options.pop("grey", False):
            image = image.convert("L")
        out = io.BytesIO()
        image.save(out, "JPEG", **options)
        path = pathlib.Path("jpeg") / split / ["lines", "rings", "squares"][label] / f"{number:02}.jpg"
        (HERE / path).parent.mkdir(parents=True, exist_ok=True)
        (HERE / path).write_bytes(out.getvalue())
        tags = [tag for tag, there in [("round", label == 1), ("tall", height > width), ("odd", number % 2)] if there]
        rows.append((path.as_posix(), round(height / 72, 4), round(width / 72, 4), "|".join(tags)))


def table(name, rows, columns):
    with open(HERE / name, "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["path", *columns])
        out.writerows(rows)


idx("train", 150, 1)
idx("t10k", 40, 2)
random, train, validation = np.random.default_rng(3), [], []
jpegs("train", 42, random, train)
jpegs("val", 14, random, validation)
for split, rows in [("train", train), ("val", validation)]:
    table(f"sizes-{split}.csv", [row[:3] for row in rows], ["height", "width"])
    table(f"tags-{split}.csv", [row[::3] for row in rows], ["tags"])
