#!/usr/bin/env python3
"""Makes a data set of many tiny pictures: class folders, or tar shards in the WebDataset convention.

usage: million.py FOLDER [--pictures 1300000] [--classes 1000] [--shards 130] [--no-folders]

Writes FOLDER/folders/CLASS/NAME.png and, with --shards, FOLDER/shards/train-NNNNNN.tar of the same pictures.
Pictures are 8x8 RGB PNG files of about 260 bytes; all differ.
"""
import argparse
import io
import os
import random
import struct
import tarfile
import zlib


def png(number):
    """An 8x8 RGB picture that no other number has."""
    noise = random.Random(number).randbytes(8 * 24)
    rows = b"".join(b"\0" + noise[row * 24 : row * 24 + 24] for row in range(8))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")


def write_folders(root, pictures, classes):
    for label in range(classes):
        folder = os.path.join(root, "folders", f"n{label:08}")
        os.makedirs(folder, exist_ok=True)
        for number in range(label, pictures, classes):
            with open(os.path.join(folder, f"n{label:08}_{number}.png"), "wb") as file:
                file.write(png(number))


def write_shards(root, pictures, classes, shards):
    os.makedirs(os.path.join(root, "shards"), exist_ok=True)
    for shard in range(shards):
        with tarfile.open(os.path.join(root, "shards", f"train-{shard:06}.tar"), "w") as archive:
            for number in range(pictures * shard // shards, pictures * (shard + 1) // shards):
                for ending, data in (("cls", str(number % classes).encode()), ("png", png(number))):
                    member = tarfile.TarInfo(f"{number:08}.{ending}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--pictures", type=int, default=1_300_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--shards", type=int, default=0)
    parser.add_argument("--no-folders", action="store_true")
    given = parser.parse_args()
    if not given.no_folders:
        write_folders(given.folder, given.pictures, given.classes)
    if given.shards:
        write_shards(given.folder, given.pictures, given.classes, given.shards)


if __name__ == "__main__":
    main()
