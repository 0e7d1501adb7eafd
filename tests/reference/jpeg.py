"""Writes vision/tests/reference/jpeg.json: small JPEG files of which windows can be decoded alone, and others, in
hexadecimal.

Run from the root of the repository, with Pillow and numpy installed: python tests/reference/jpeg.py
"""

import io
import json
import pathlib

import numpy as np
from PIL import Image

OUT = pathlib.Path(__file__).resolve().parents[2] / "vision" / "tests" / "reference" / "jpeg.json"
WIDTH, HEIGHT = 83, 61

x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
planes = [128 + 100 * np.sin(x / (3 + c) + y / 9) * np.cos(y / (4 - c)) for c in range(3)]
noise = np.random.default_rng(8).normal(0, 12, (HEIGHT, WIDTH, 3))
picture = Image.fromarray(np.clip(np.stack(planes, -1) + noise, 0, 255).astype(np.uint8))


def file(image=picture, **options):
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue().hex()


turned = Image.Exif()
turned[0x0112] = 6
files = {
    "4:4:4": file(quality=92, subsampling="4:4:4"),
    "4:2:2": file(quality=80, subsampling="4:2:2"),
    "4:2:0": file(quality=85, subsampling="4:2:0", optimize=True),
    "4:2:0, coarse": file(quality=10, subsampling="4:2:0"),
    "4:2:0, restarts": file(quality=75, subsampling="4:2:0", restart_marker_blocks=5),
    "grey": file(picture.convert("L"), quality=75),
    "grey, said to be 4:2:0": file(picture.convert("L"), quality=75, subsampling="4:2:0"),
}
left = {
    "progressive": file(quality=75, progressive=True),
    "CMYK": file(picture.convert("CMYK"), quality=75),
    "turned": file(quality=75, exif=turned),
    "RGB": file(quality=75, keep_rgb=True),
}
OUT.write_text(json.dumps({"files": files, "left": left}, indent=1) + "\n")
