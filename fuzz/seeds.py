#!/usr/bin/env python3
"""Makes what fuzzers begin with: what the program writes for a tiny run, specs, tables, archives, and pictures.

    fuzz/seeds.py [FOLDER_OF_PICTURES...]

CONVOY names the binary (target/debug/convoy). The seeds go to fuzz/corpus/TARGET/.
"""

import io, json, os, struct, subprocess, sys, tarfile, tempfile, zipfile
from pathlib import Path

root = Path(__file__).resolve().parent.parent
convoy = str(Path(os.environ.get("CONVOY", root / "target/debug/convoy")).resolve())
corpus = root / "fuzz/corpus"


def keep(target, name, content):
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def idx(count, side=8):
    pixels = bytes((i * 37 + p * 11) % 251 for i in range(count) for p in range(side * side))
    images = struct.pack(">4i", 0x803, count, side, side) + pixels
    return images, struct.pack(">2i", 0x801, count) + bytes(i % 3 for i in range(count))


SPEC = """[data]
train = "data"
[network]
layers = [{ type = "flatten" }, { type = "linear", out = 3 }]
[optimizer]
lr = 0.05
momentum = 0.9
[train]
epochs = 2
batch = 8
shard = 4
"""

with tempfile.TemporaryDirectory() as work:
    work = Path(work)
    (work / "data").mkdir()
    for prefix, count in (("train", 24), ("t10k", 8)):
        images, labels = idx(count)
        (work / f"data/{prefix}-images-idx3-ubyte").write_bytes(images)
        (work / f"data/{prefix}-labels-idx1-ubyte").write_bytes(labels)
    (work / "job.toml").write_text(SPEC)
    subprocess.run([convoy, "train", "job.toml", "--out", "run"], cwd=work, check=True, capture_output=True)
    run = work / "run"
    keep("plan_file", "tiny", (run / "plan.json").read_bytes())
    plan = json.dumps(json.loads((run / "model/config.json").read_text())["convoy"]["plan"]).encode()
    keep("plan", "tiny", plan)
    keep("model", "tiny", plan)
    keep("manifest", "tiny", (run / "manifest.bin").read_bytes())
    lines = [line.split(b" ", 1)[1] for line in (run / "journal").read_bytes().splitlines() if b" " in line]
    keep("journal", "tiny", b"\n".join(lines) + b"\n")
    for path in sorted(run.glob("checkpoints/*.safetensors"))[:1]:
        keep("checkpoint", "tiny", path.read_bytes())
        keep("tensors", "checkpoint", path.read_bytes())
    keep("tensors", "model", (run / "model/model.safetensors").read_bytes())

images, labels = idx(12)
keep("idx", "tiny", bytes([round(255 * len(images) / (len(images) + len(labels)))]) + images + labels)
keep("spec", "tiny", b"train.epochs=3\n" + SPEC.encode())
for path in root.glob("examples/*.toml"):
    keep("spec", path.stem, b"\n" + path.read_bytes())
keep("token", "none", b"cvy1." + b"a" * 64 + b".abcdef.0123456789abcdef")
for number, text in enumerate(["path,label\na.png,x\nb.png,y\n", "path;label;w\na.png;x|y;1\nb.png;y;2\n",
                               "path\tvalue\na.png\t1.5\nb.png\tnan\n", '{"file_name": "a.png", "label": 1}\n']):
    keep("table", str(number), bytes([number % 4]) + text.encode())


def tar(mode):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        files = (("a/0.png", b"\x89PNG"), ("b/1.png", b"\x89PNG"), ("0.cls", b"1"), ("0.json", b'{"x": 1}'))
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


keep("archive", "tar", b"\x00" + tar("w"))
keep("archive", "tgz", b"\x01" + tar("w:gz"))
npy = lambda shape, kind, data: b"\x93NUMPY\x01\x00" + (lambda head: struct.pack("<H", len(head)) + head)(
    ("{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (kind, shape)).ljust(117).encode() + b"\n") + data
out = io.BytesIO()
with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("train_images.npy", npy("(4, 8, 8)", "|u1", bytes(256)))
    archive.writestr("train_labels.npy", npy("(4, 1)", "|u1", bytes([0, 1, 0, 1])))
keep("archive", "npz", b"\x03" + out.getvalue())
keep("archive", "cifar", b"\x04" + b"".join(bytes([i]) + bytes(3072) for i in range(3)))
for folder in map(Path, sys.argv[1:]):
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.stat().st_size > 1 << 18:
            continue
        ending, name = path.suffix.lower(), f"{path.parent.name}-{path.name}"
        if ending in (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"):
            keep("image", name, path.read_bytes())
        elif ending in (".csv", ".tsv"):
            keep("table", name, b"\x00" + path.read_bytes())
        elif ending == ".parquet":
            keep("archive", name, b"\x02" + path.read_bytes())
for number in range(1, 24):
    keep("message", str(number), bytes([number << 3 | 2, 2, 8, 1]) if number < 16 else bytes([8, 1, 16, 2, 26, 0]))
