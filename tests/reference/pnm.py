"""Writes vision/tests/reference/pnm.json: what Pillow makes of PGM and PPM files.

Run from the root of the repository, with Pillow and numpy: python tests/reference/pnm.py

Cases are as in formats.py. Of 16 bits the upper byte of Pillow's number counts; of colours of 16 bits, of which Pillow
makes 8 itself, that of the number scaled by Pillow's rule.
"""

import io
import json
import pathlib

import numpy as np
from PIL import Image

OUT = pathlib.Path(__file__).resolve().parents[2] / "vision" / "tests" / "reference" / "pnm.json"
random = np.random.default_rng(16)
WIDTH, HEIGHT = 11, 7


def case(name, data, most):
    with Image.open(io.BytesIO(data)) as image:
        seen = np.asarray(image)
    if most > 255:
        seen = WIDE[name] if seen.ndim == 3 else seen
        seen = seen.astype(np.int64) >> 8
    seen = np.repeat(seen[..., None], 3, 2) if seen.ndim == 2 else seen
    return {
        "name": name,
        "file": data.hex(),
        "range16": None,
        "output": [seen.shape[1], seen.shape[0], 3, seen.astype(np.uint8).tobytes().hex()],
    }


WIDE = {}


def cases():
    for most in [255, 1, 100, 15, 65535, 4095, 256]:
        for channels, magics in [(1, ["P5", "P2"]), (3, ["P6", "P3"])]:
            values = random.integers(0, most + 1, (HEIGHT, WIDTH, channels))
            header = f"{WIDTH} {HEIGHT}\n{most}\n"
            for magic in magics:
                name = f"{magic} {most}"
                WIDE[name] = np.round(values / most * 65535)
                if magic in ["P5", "P6"]:
                    body = values.astype(">u2" if most > 255 else "u1").tobytes()
                else:
                    body = " ".join(map(str, values.flatten())).encode() + b"\n"
                yield case(name, f"{magic}\n{header}".encode() + body, most)
    values = random.integers(0, 256, HEIGHT * WIDTH).astype(np.uint8).tobytes()
    header = f"P5 # made by hand\n#\n  {WIDTH}\t# columns\n\r\n{HEIGHT} 255\n".encode()
    yield case("P5 comments", header + values, 255)


text = ",\n".join(json.dumps(case) for case in cases())
OUT.write_text("[\n" + text + "\n]\n")
