"""Writes vision/tests/reference/jpeg_kinds.json: small JPEG files of every sampling, order of scans and number of
components, in hexadecimal, and what Pillow makes of them and of variants of them.

Run from the root of the repository, with Pillow and numpy installed and libjpeg-turbo's `cjpeg` and `jpegtran` in the
path: python tests/reference/jpeg_kinds.py

A variant of a file is named `IDS/MARKERS/DAMAGE`; `vision/tests/jpeg_kinds.rs` makes the same bytes from the same name.
IDS: component ids in hexadecimal. MARKERS: `J` for JFIF's, `A0`, `A1` and `A2` for Adobe's with that transform; all
that were there are taken out. DAMAGE: nothing; `junk`, `fill` or `restart` in front of each marker segment but the
first and of the end marker; `cutN`, N eighths of the bytes behind the first scan header are kept before an end marker.

Pillow's answer is `refused`, or in hexadecimal 256 times the mean of red, green and blue (4 digits each), and four
pixels.
"""

import io
import itertools
import json
import pathlib
import subprocess
import tempfile

import numpy as np
from PIL import Image

OUT = pathlib.Path(__file__).resolve().parents[2] / "vision" / "tests" / "reference" / "jpeg_kinds.json"
WIDTH, HEIGHT = 43, 29
PIXELS = [(0, 0), (21, 11), (33, 6), (42, 28)]

x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
planes = [128 + (90 - 20 * c) * np.sin(x / (9 + c) + y / 14 + c) * np.cos(y / (9 - c)) for c in range(3)]
noise = np.random.default_rng(16).normal(0, 3, (HEIGHT, WIDTH, 1))
picture = Image.fromarray(np.clip(np.stack(planes, -1) + noise, 0, 255).astype(np.uint8))

ONE_EACH = {1: "0;", 3: "0; 1; 2;", 4: "0; 1; 2; 3;"}


def tool(name, data, *options, scans=None):
    with tempfile.NamedTemporaryFile("w") as script:
        if scans:
            script.write(scans)
            script.flush()
            options += ("-scans", script.name)
        return subprocess.run([name, *options], input=data, stdout=subprocess.PIPE, check=True).stdout


def bases():
    ppm = io.BytesIO()
    picture.save(ppm, "PPM")
    samplings = {"4:4:4": "1x1", "4:2:2": "2x1", "4:2:0": "2x2", "4:4:0": "1x2", "4:1:1": "4x1", "4:1:0": "4x2"}
    sources = {
        name: (3, tool("cjpeg", ppm.getvalue(), "-quality", "70", "-sample", sampling))
        for name, sampling in samplings.items()
    }
    sources["grey"] = (1, tool("cjpeg", ppm.getvalue(), "-quality", "70", "-grayscale"))
    cmyk = io.BytesIO()
    picture.convert("CMYK").save(cmyk, "JPEG", quality=70)
    sources["four"] = (4, cmyk.getvalue())
    for name, (count, data) in sources.items():
        for restarts in (0, 3):
            distance = ("-restart", f"{restarts}B") if restarts else ()
            end = f" r{restarts}"
            yield f"{name} together{end}", tool("jpegtran", data, *distance)
            if count > 1:
                yield f"{name} apart{end}", tool("jpegtran", data, *distance, scans=ONE_EACH[count])
            yield f"{name} progressive{end}", tool("jpegtran", data, "-progressive", *distance)


def segments(data):
    """Marker, content, and whatever follows up to the next marker."""
    at = 2
    while data[at + 1] != 0xD9:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        end = start = at + 2 + length
        while data[end] != 0xFF or data[end + 1] in (0, *range(0xD0, 0xD8)):
            end += 1
        yield data[at + 1], data[at + 4 : start], data[start:end]
        at = end


INSERTED = {
    "J": b"\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0",
    **{f"A{transform}": b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform]) for transform in range(3)},
}
BEFORE = {"junk": b"\x00\x11\xff\x00\x22", "fill": b"\xff\xff\xff", "restart": b"\xff\xd3"}


def variant(data, ids, markers, damage):
    out = b"\xff\xd8" + b"".join(INSERTED[marker] for marker in markers.split())
    before, places, first_scan = BEFORE.get(damage, b""), {}, None
    for marker, content, rest in segments(data):
        content = bytearray(content)
        if marker in (0xE0, 0xEE):
            continue
        if marker in (0xC0, 0xC1, 0xC2):
            for number, new in enumerate(ids):
                places[content[6 + 3 * number]] = new
                content[6 + 3 * number] = new
        if marker == 0xDA:
            for number in range(content[0]):
                content[1 + 2 * number] = places[content[1 + 2 * number]]
        if len(out) > 2:
            out += before
        out += bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content
        if marker == 0xDA and first_scan is None:
            first_scan = len(out)
        out += rest
    if damage.startswith("cut"):
        out = out[: first_scan + (len(out) - first_scan) * int(damage[3:]) // 8]
    return out + before + b"\xff\xd9"


def answer(data):
    try:
        image = Image.open(io.BytesIO(data)).convert("RGB")
    except Exception:
        return "refused"
    array = np.asarray(image)
    means = [round(256 * mean) for mean in array.reshape(-1, 3).mean(0)]
    return "".join(f"{mean:04x}" for mean in means) + "".join(bytes(array[y, x]).hex() for x, y in PIXELS)


def names(base):
    count = 1 if base.startswith("grey") else 4 if base.startswith("four") else 3
    ids = {
        1: [b"\x01", b"R"],
        3: [b"\x01\x02\x03", b"RGB", b"\x00\x01\x02", b"BGR"],
        4: [b"\x01\x02\x03\x04", b"CMYK", b"RGBA"],
    }[count]
    for these, markers in itertools.product(ids, ["", "J", "A0", "A1", "A2", "J A0"]):
        yield these, markers, ""
    for damage in [*BEFORE, *(f"cut{eighths}" for eighths in range(1, 8))]:
        yield ids[0], "J" if count < 4 else "A2", damage


files = dict(bases())
answers = {
    base: {
        f"{ids.hex()}/{markers}/{damage}": answer(variant(data, ids, markers, damage))
        for ids, markers, damage in names(base)
    }
    for base, data in files.items()
}
text = {name: data.hex() for name, data in files.items()}
OUT.write_text(json.dumps({"files": text, "answers": answers}, indent=0) + "\n")
