"""Makes examples/data/fashion-mnist from the four original files of Fashion-MNIST (zalandoresearch/fashion-mnist, MIT):
the first 10,000 training and the first 2,000 test images, in the original IDX form.

Usage: python examples/data/make_fashion_mnist.py FOLDER_WITH_THE_ORIGINAL_FILES
"""
import gzip
import shutil
import struct
import sys
from pathlib import Path

source, target = Path(sys.argv[1]), Path(__file__).parent / "fashion-mnist"
target.mkdir(exist_ok=True)
for name, count in [("train", 10_000), ("t10k", 2_000)]:
    for kind, sides, size in [("images-idx3-ubyte", 2, 28 * 28), ("labels-idx1-ubyte", 0, 1)]:
        raw = gzip.decompress((source / f"{name}-{kind}.gz").read_bytes())
        begin = 8 + 4 * sides
        head = raw[:4] + struct.pack(">I", count) + raw[8:begin]
        packed = gzip.compress(head + raw[begin : begin + count * size], compresslevel=9, mtime=0)
        (target / f"{name}-{kind}.gz").write_bytes(packed)
shutil.copy(source / "LICENSE", target / "LICENSE")
