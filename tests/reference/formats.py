"""Writes vision/tests/reference/formats.json: what Pillow makes of BMP, GIF, TIFF, WebP and 16-bit PNG files.

Run from the root of the repository, with Pillow, numpy, tifffile and imagecodecs: python tests/reference/formats.py

A case has its name, the file in hexadecimal, and Pillow's `convert("RGB")`, turned upright, as [width, height, 3, bytes
in hexadecimal]. Where Pillow clips 16 bits (grey), numpy takes the upper byte, or stretches from `range16`.
"""

import io
import json
import pathlib
import struct

import numpy as np
import tifffile
from PIL import Image, ImageOps

OUT = pathlib.Path(__file__).resolve().parents[2] / "vision" / "tests" / "reference" / "formats.json"
random = np.random.default_rng(16)
WIDTH, HEIGHT = 11, 7


def picture(channels, dtype=np.uint8, width=WIDTH, height=HEIGHT):
    """Waves with noise."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    planes = [128 + 100 * np.sin(x / (2 + c)) * np.cos(y / (3 - c / 2)) for c in range(channels)]
    array = np.stack(planes, -1) + random.normal(0, 20, (height, width, channels))
    array = np.clip(array, 0, 255) / 255 * np.iinfo(dtype).max
    return array.astype(dtype)[..., 0] if channels == 1 else array.astype(dtype)


def packed(array):
    array = np.repeat(array[..., None], 3, 2) if array.ndim == 2 else array
    return [array.shape[1], array.shape[0], 3, array.astype(np.uint8).tobytes().hex()]


def case(name, data, output=None, range16=None):
    if output is None:
        seen = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        output = np.asarray(seen.convert("RGB"))
    return {"name": name, "file": data.hex(), "range16": range16, "output": packed(output)}


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


RGB, GREY = Image.fromarray(picture(3)), Image.fromarray(picture(1))
ALPHA = Image.fromarray(picture(4))
FEW = RGB.quantize(13)
BITS = GREY.convert("1")


def bmp(width, height, bits, body, compression=0, palette=b"", masks=b"", header=40, colours=0):
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(body), 1, 1, colours, 0)
    extra = masks.ljust(header - 40, b"\0") if header > 40 else masks
    offset = 14 + len(info) + len(extra) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + info + extra + palette + body


def rows(lines):
    return b"".join(line + b"\0" * (-len(line) % 4) for line in lines)


def bmps():
    for name, image in [("1 bit", BITS), ("grey", GREY), ("palette", FEW), ("24 bits", RGB), ("32 bits", ALPHA)]:
        yield case(f"BMP {name}", saved(image, format="BMP"))
    colour = np.asarray(RGB)
    # Rows from the top.
    yield case("BMP from the top", bmp(WIDTH, -HEIGHT, 24, rows(line[:, ::-1].tobytes() for line in colour)))
    sixteen = (colour[..., 0] >> 3).astype("<u2") << 10 | (colour[..., 1] >> 3).astype("<u2") << 5 | colour[..., 2] >> 3
    yield case("BMP 555", bmp(WIDTH, HEIGHT, 16, rows(line.astype("<u2").tobytes() for line in sixteen)))
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    noise = random.integers(0, 1 << 16, (HEIGHT, WIDTH)).astype("<u2")
    yield case("BMP 565", bmp(WIDTH, HEIGHT, 16, rows(line.tobytes() for line in noise), 3, masks=masks))
    wide = random.integers(0, 1 << 32, (HEIGHT, WIDTH), dtype=np.uint32).astype("<u4")
    for name, masks in [("BGRX", (0xFF0000, 0xFF00, 0xFF, 0)), ("RGBA", (0xFF, 0xFF00, 0xFF0000, 0xFF000000))]:
        masks = struct.pack("<IIII", *masks)
        lines = rows(line.tobytes() for line in wide)
        yield case(f"BMP masks {name}", bmp(WIDTH, HEIGHT, 32, lines, 3, masks=masks, header=56))
    yield case("BMP 32 bits plain", bmp(WIDTH, HEIGHT, 32, rows(line.tobytes() for line in wide)))
    palette = random.integers(0, 256, (16, 4)).astype(np.uint8)
    numbers = random.integers(0, 16, (HEIGHT, 12)).astype(np.uint8)
    nibbles = rows((line[::2] << 4 | line[1::2]).astype(np.uint8).tobytes() for line in numbers)
    yield case("BMP 4 bits", bmp(WIDTH, HEIGHT, 4, nibbles, palette=palette.tobytes()))
    yield case("BMP OS/2", bmp(WIDTH, HEIGHT, 4, nibbles, palette=palette[:, :3].tobytes(), header=12))
    few = bmp(WIDTH, HEIGHT, 8, rows(line[:11].tobytes() for line in numbers), palette=palette[:9].tobytes(), colours=9)
    yield case("BMP with colours it has not", few)
    # Two rows of runs, an absolute run of odd length, a jump, and an end before the last row.
    rle8 = bytes([11, 3, 0, 0, 4, 1, 0, 5, 9, 8, 7, 6, 5, 0, 2, 2, 0, 0, 0, 2, 3, 1, 3, 12, 0, 0, 11, 2, 0, 0, 0, 1])
    file = bmp(WIDTH, 5, 8, rle8, 1, palette=palette.tobytes(), colours=16)
    yield case("BMP RLE8", file, rle(rle8, 5, palette))
    rle4 = bytes([11, 0x3A, 0, 0, 0, 5, 0x12, 0x34, 0x50, 0, 6, 0x7B, 0, 0, 11, 0xFF, 0, 0, 0, 1])
    yield case("BMP RLE4", bmp(WIDTH, 3, 4, rle4, 2, palette=palette.tobytes(), colours=16))


def rle(data, height, palette):
    """Windows' reading of RLE8: Pillow's jumps fill with 0 all the same."""
    numbers, x, y, at = np.zeros((height, WIDTH), np.uint8), 0, 0, 0
    while True:
        count, value = data[at], data[at + 1]
        at += 2
        if count:
            numbers[y, x : x + count] = value
            x += count
        elif value == 0:
            x, y = 0, y + 1
        elif value == 1:
            return palette[numbers[::-1]][..., 2::-1]
        elif value == 2:
            x, y = x + data[at], y + data[at + 1]
            at += 2
        else:
            numbers[y, x : x + value] = list(data[at : at + value])
            x, at = x + value, at + value + value % 2


def gifs():
    yield case("GIF palette", saved(FEW, format="GIF"))
    yield case("GIF grey", saved(GREY, format="GIF"))
    yield case("GIF two colours", saved(BITS, format="GIF"))
    yield case("GIF interlaced", saved(FEW, format="GIF", interlace=1))
    yield case("GIF transparent", saved(FEW, format="GIF", transparency=3))
    frames = [Image.fromarray(picture(3)).quantize(8) for _ in range(3)]
    yield case("GIF animated", saved(frames[0], format="GIF", save_all=True, append_images=frames[1:]))
    # A picture smaller than its screen, and one that reaches beyond.
    plain = bytearray(saved(FEW, format="GIF"))
    at = plain.index(b"\x2c", 13 + 3 * (2 << (plain[10] & 7)))
    for name, screen, corner in [("on a larger screen", (15, 9), (3, 1)), ("beyond its screen", (8, 5), (2, 3))]:
        moved = bytearray(plain)
        moved[6:10] = struct.pack("<HH", *screen)
        moved[at + 1 : at + 5] = struct.pack("<HH", *corner)
        yield case(f"GIF {name}", bytes(moved))
        marked = moved[:at] + b"\x21\xf9\x04\x01\0\0\x05\0" + moved[at:]
        yield case(f"GIF {name}, transparent", bytes(marked))
    local = Image.fromarray(picture(3)).quantize(4)
    yield case("GIF of an unlimited palette", saved(local, format="GIF", include_color_table=True))


def tiffs():
    packings = {"plain": None, "LZW": "tiff_lzw", "deflate": "tiff_adobe_deflate", "PackBits": "packbits"}
    for name, compression in packings.items():
        yield case(f"TIFF RGB {name}", saved(RGB, format="TIFF", compression=compression))
        yield case(f"TIFF palette {name}", saved(FEW, format="TIFF", compression=compression))
    others = {"grey and alpha": ALPHA.convert("LA"), "RGBA": ALPHA, "CMYK": RGB.convert("CMYK")}
    for name, image in {"1 bit": BITS, "grey": GREY, **others}.items():
        yield case(f"TIFF {name}", saved(image, format="TIFF"))
        yield case(f"TIFF {name} LZW", saved(image, format="TIFF", compression="tiff_lzw"))
    for orientation in [3, 6, 7]:
        yield case(f"TIFF orientation {orientation}", saved(RGB, format="TIFF", tiffinfo={274: orientation}))
    yield case("TIFF of two pages", saved(RGB, format="TIFF", save_all=True, append_images=[GREY]))

    def written(array, output=None, range16=None, *, name, predictor=False, **options):
        file = io.BytesIO()
        tifffile.imwrite(file, array, metadata=None, predictor=predictor, **options)
        return case(f"TIFF {name}", file.getvalue(), output, range16)

    large = picture(3, width=37, height=21)
    yield written(large, name="tiles", photometric="rgb", tile=(16, 16))
    lzw = {"compression": "lzw", "predictor": True}
    yield written(large[..., 0], name="grey tiles LZW", photometric="minisblack", tile=(16, 16), **lzw)
    yield written(picture(3), name="strips", photometric="rgb", rowsperstrip=3, **lzw)
    deflate = {"compression": "zlib", "predictor": True}
    yield written(picture(3), name="big-endian deflate", photometric="rgb", byteorder=">", **deflate)
    planes = np.moveaxis(picture(3), 2, 0)
    yield written(planes, name="planes", photometric="rgb", planarconfig="separate", rowsperstrip=4)
    yield written(picture(1), name="white is 0", photometric="miniswhite")
    yield written(picture(4), name="RGB and something", photometric="rgb", extrasamples=["unspecified"])
    yield written(picture(4), name="premultiplied", photometric="rgb", extrasamples=["assocalpha"])
    for order in "<>":
        colours = picture(3, np.uint16)
        yield written(colours, colours >> 8, name=f"RGB of 16 bits {order}", photometric="rgb", byteorder=order)
        grey = picture(1, np.uint16)
        yield written(grey, grey >> 8, name=f"grey of 16 bits {order}", byteorder=order, **lzw)
        twelve = grey >> 4
        stretched = ((np.clip(twelve, 500, 3500) - 500) * 255.0 / 3000 + 0.5).astype(np.uint8)
        yield written(twelve, stretched, [500, 3500], name=f"12 of 16 bits {order}", byteorder=order)
    # 2 and 4 bits: a plain file whose header is changed.
    nibbles = bytearray(saved(Image.frombytes("L", (4, 4), bytes(range(16))), format="TIFF"))
    for bits in [2, 4]:
        changed = bytearray(nibbles)
        at = struct.unpack("<I", changed[4:8])[0]
        for entry in range(struct.unpack("<H", changed[at : at + 2])[0]):
            place = at + 2 + 12 * entry
            if struct.unpack("<H", changed[place : place + 2])[0] == 258:
                changed[place + 8 : place + 10] = struct.pack("<H", bits)
        yield case(f"TIFF {bits} bits", bytes(changed))


def webps():
    large = Image.fromarray(picture(3, width=20, height=13))
    for name, image in [("RGB", large), ("RGBA", ALPHA)]:
        yield case(f"WebP lossless {name}", saved(image, format="WEBP", lossless=True, exact=True))
        for quality in [30, 90]:
            yield case(f"WebP lossy {name} {quality}", saved(image, format="WEBP", quality=quality, exact=True))
    exif = Image.Exif()
    exif[274] = 6
    yield case("WebP lossless orientation 6", saved(large, format="WEBP", lossless=True, exif=exif))
    frames = [Image.fromarray(picture(3)) for _ in range(2)]
    for lossless in [True, False]:
        data = saved(frames[0], format="WEBP", save_all=True, append_images=frames[1:], lossless=lossless)
        yield case(f"WebP {'lossless' if lossless else 'lossy'} animated", data)
    # Its first picture moved on a larger canvas.
    data = bytearray(saved(frames[0], format="WEBP", save_all=True, append_images=frames[1:], lossless=True))
    at = data.index(b"VP8X") + 12
    data[at : at + 6] = struct.pack("<I", 17)[:3] + struct.pack("<I", 12)[:3]
    at = data.index(b"ANMF") + 8
    data[at : at + 6] = struct.pack("<I", 2)[:3] + struct.pack("<I", 1)[:3]
    yield case("WebP lossless on a larger canvas", bytes(data))


def pngs():
    grey = picture(1, np.uint16)
    data = saved(Image.fromarray(grey), format="PNG")
    yield case("PNG grey of 16 bits", data, grey >> 8)
    low, high = 10_000, 40_000
    stretched = ((np.clip(grey, low, high).astype(np.int64) - low) * 255 / (high - low) + 0.5).astype(np.uint8)
    yield case("PNG stretched", data, stretched, [low, high])


cases = [*bmps(), *gifs(), *tiffs(), *webps(), *pngs()]
OUT.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
print(len(cases), "cases,", OUT.stat().st_size, "bytes")
