"""Writes vision/tests/reference/pillow.json: what Pillow and torchvision make of small images.

Run from the root of the repository, with Pillow, numpy and torchvision installed: python tests/reference/vision.py

An image is [width, height, channels, its bytes in hexadecimal, row by row, channels together].
"""

import io
import json
import math
import pathlib

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.transforms import CenterCrop, InterpolationMode, Resize
from torchvision.transforms.v2 import functional as F

OUT = pathlib.Path(__file__).resolve().parents[2] / "vision" / "tests" / "reference" / "pillow.json"
FILTERS = {
    "bilinear": (Image.Resampling.BILINEAR, InterpolationMode.BILINEAR),
    "bicubic": (Image.Resampling.BICUBIC, InterpolationMode.BICUBIC),
    "lanczos": (Image.Resampling.LANCZOS, InterpolationMode.LANCZOS),
}
random = np.random.default_rng(8)


def packed(image):
    array = np.asarray(image)
    channels = 1 if array.ndim == 2 else array.shape[2]
    return [array.shape[1], array.shape[0], channels, array.astype(np.uint8).tobytes().hex()]


def picture(width, height, channels):
    """Waves with noise and some full blacks and whites, so that filters overshoot."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    planes = []
    for channel in range(channels):
        wave = 128 + 110 * np.sin(x / (2 + channel)) * np.cos(y / (3 - channel / 2))
        plane = wave + random.normal(0, 25, (height, width))
        plane[random.random((height, width)) < 0.1] = 255
        plane[random.random((height, width)) < 0.1] = 0
        planes.append(plane)
    array = np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)
    return Image.fromarray(array[..., 0] if channels == 1 else array)


def resizes():
    """Rows first and columns then, as Pillow did up to version 12 whatever the sizes; later ones swap where that is
    faster."""
    sizes = {
        (13, 9, 3): [(5, 7), (20, 11), (13, 4)],
        (7, 31, 1): [(20, 10), (7, 15), (3, 3)],
        (25, 18, 3): [(17, 22), (9, 6), (1, 1)],
    }
    for shape, targets in sizes.items():
        image = picture(*shape)
        for width, height in targets:
            for name, (pillow, _) in FILTERS.items():
                rows = image.resize((width, image.height), pillow)
                case = {"filter": name, "input": packed(image), "output": packed(rows.resize((width, height), pillow))}
                if name == "bilinear":
                    case["at_once"] = packed(image.resize((width, height), pillow))
                yield case


def geometries():
    """Crop (torchvision on Pillow images), letterbox (ImageOps.pad), none (torchvision's centre crop). Sizes at which
    Pillow resizes rows first in every version."""
    for shape in [(31, 20, 3), (19, 23, 1), (37, 13, 1)]:
        image = picture(*shape)
        for fraction in [1.0, 0.875]:
            for name, (_, mode) in list(FILTERS.items())[: 3 if fraction == 1 else 1]:
                resized = Resize(math.floor(15 / fraction), mode)(image)
                yield {
                    "resize": "crop", "crop_fraction": fraction, "filter": name, "size": [15, 15],
                    "input": packed(image), "output": packed(CenterCrop(15)(resized)),
                }  # fmt: skip
        for width, height in [(14, 14), (21, 10), (9, 25)]:
            yield {
                "resize": "letterbox", "crop_fraction": 1.0, "filter": "bicubic", "size": [height, width],
                "input": packed(image), "output": packed(ImageOps.pad(image, (width, height), FILTERS["bicubic"][0])),
            }  # fmt: skip
        yield {
            "resize": "none", "crop_fraction": 1.0, "filter": "bicubic", "size": [16, 13],
            "input": packed(image), "output": packed(CenterCrop((16, 13))(image)),
        }  # fmt: skip


def tensor(image):
    array = np.asarray(image)
    return torch.from_numpy(array.copy() if array.ndim == 3 else array[..., None].copy()).permute(2, 0, 1)


def untensor(tensor):
    array = tensor.permute(1, 2, 0).numpy()
    return array[..., 0] if array.shape[2] == 1 else array


def affines():
    """torchvision's affine turns clockwise, ours counterclockwise."""
    for shape in [(17, 12, 3), (9, 14, 1)]:
        image = picture(*shape)
        for degrees, scale in [(0.0, 0.7), (30.0, 1.0), (-77.5, 1.3), (180.0, 1.0), (12.0, 0.9)]:
            result = F.affine(
                tensor(image), -degrees, [0, 0], scale, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR
            )
            yield {"degrees": degrees, "scale": scale, "input": packed(image), "output": packed(untensor(result))}


def colours():
    changes = {
        "brightness": (F.adjust_brightness, [0.4, 1.0, 1.7]),
        "contrast": (F.adjust_contrast, [0.3, 1.0, 1.6]),
        "saturation": (F.adjust_saturation, [0.0, 0.5, 1.8]),
        "hue": (F.adjust_hue, [-0.5, -0.13, 0.0, 0.27]),
    }
    for shape in [(16, 11, 3), (8, 7, 1)]:
        image = picture(*shape)
        for name, (change, factors) in changes.items():
            for factor in factors:
                result = untensor(change(tensor(image), factor))
                yield {"change": name, "factor": factor, "input": packed(image), "output": packed(result)}


def files():
    """JPEG and PNG files of kinds that the PngSuite does not hold."""
    colour, grey = picture(19, 14, 3), picture(19, 14, 1)

    def written(image, name, **options):
        file = io.BytesIO()
        image.save(file, **options)
        seen = Image.open(io.BytesIO(file.getvalue()))
        seen = seen if seen.mode == "L" else seen.convert("RGB")
        return {"name": name, "file": file.getvalue().hex(), "output": packed(seen)}

    yield written(colour, "JPEG 4:4:4", format="JPEG", quality=90, subsampling=0)
    yield written(colour, "JPEG 4:2:2", format="JPEG", quality=90, subsampling=1)
    yield written(colour, "JPEG 4:2:0", format="JPEG", quality=90, subsampling=2)
    yield written(colour, "progressive JPEG", format="JPEG", quality=90, progressive=True)
    yield written(colour, "JPEG with restarts", format="JPEG", quality=90, restart_marker_rows=1)
    yield written(grey, "grey JPEG", format="JPEG", quality=90)
    yield written(grey, "grey progressive JPEG", format="JPEG", quality=90, progressive=True)
    yield written(colour.convert("CMYK"), "CMYK JPEG", format="JPEG", quality=95)
    yield written(colour, "PNG", format="PNG")


cases = {
    "resize": list(resizes()),
    "geometry": list(geometries()),
    "affine": list(affines()),
    "colour": list(colours()),
    "files": list(files()),
}
OUT.parent.mkdir(parents=True, exist_ok=True)
lines = [f'"{name}": [\n' + ",\n".join(json.dumps(case) for case in group) + "\n]" for name, group in cases.items()]
OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
