"""Writes tests/reference/samples: small files of pictures with labels, as other programs write them.

Run from the root of the repository, with datasets, pyarrow, pandas, polars and Pillow: python tests/reference/samples.py

samples.json has, of Parquet files, the pictures (PNG files in hexadecimal) and for each file the picture of each row and the label columns.
"""

import io
import json
import pathlib
import shutil

import datasets
import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OUT = pathlib.Path(__file__).resolve().parent / "samples"
CLASSES = ["red", "green", "blue"]
COUNT = 24
random = np.random.default_rng(16)


def picture(label):
    pixels = random.integers(0, 80, (4, 4, 3), dtype=np.uint8)
    pixels[..., label] += 150
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


LABELS = [row % 3 for row in range(COUNT)]
PICTURES = [picture(label) for label in LABELS]
FILES = {}


def note(name, rows, **columns):
    path = OUT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    FILES[name] = {"rows": list(rows), "columns": {key: [str(field) for field in column] for key, column in columns.items()}}
    return path


def structures(rows):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": PICTURES[row], "path": f"{row}.png"} for row in rows], kind)


def hugging_face():
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES), "caption": datasets.Value("string")}
    )
    images = [{"bytes": data, "path": f"{row}.png"} for row, data in enumerate(PICTURES)]
    columns = {"image": images, "label": LABELS, "caption": [f"a {CLASSES[label]} one" for label in LABELS]}
    whole = datasets.Dataset.from_dict(columns, features=features)
    parts = {
        "train-00000-of-00002": range(0, 8),
        "train-00001-of-00002": range(8, 15),
        "validation-00000-of-00001": range(15, 20),
        "test-00000-of-00001": range(20, 24),
    }
    for name, rows in parts.items():
        path = note(f"hugging_face/data/{name}.parquet", rows, label=[LABELS[row] for row in rows])
        whole.select(rows).to_parquet(path)


def hugging_face_lists():
    features = datasets.Features(
        {"image": datasets.Image(), "labels": datasets.List(datasets.ClassLabel(names=CLASSES))}
    )
    lists = [[[0], [1, 2], [], [0, 1, 2]][row % 4] for row in range(COUNT)]
    images = [{"bytes": data, "path": None} for data in PICTURES]
    path = note("lists.parquet", range(COUNT), labels=["\x1f".join(map(str, field)) for field in lists])
    datasets.Dataset.from_dict({"image": images, "labels": lists}, features=features).to_parquet(path)


def other_programs():
    words = [CLASSES[label] for label in LABELS]
    path = note("pandas.parquet", range(COUNT), label=words)
    pandas.DataFrame({"image": PICTURES, "label": words}).to_parquet(path, row_group_size=10)
    path = note("polars.parquet", range(COUNT), label=LABELS, weight=[row / 4 for row in range(COUNT)])
    frame = polars.DataFrame({"img": PICTURES, "label": LABELS, "weight": [row / 4 for row in range(COUNT)]})
    frame.write_parquet(path, row_group_size=7)


def kinds_of_pages():
    kinds = {
        "gzip": {"compression": "gzip"},
        "none": {"compression": "none", "use_dictionary": False, "write_page_checksum": True},
        "v2": {"compression": "zstd", "data_page_version": "2.0", "write_page_index": True},
        "delta": {"use_dictionary": False, "column_encoding": {"image.bytes": "DELTA_LENGTH_BYTE_ARRAY"}},
    }
    table = pa.table({"image": structures(range(COUNT)), "label": LABELS})
    for name, options in kinds.items():
        path = note(f"{name}.parquet", range(COUNT), label=LABELS)
        # Pages of three pictures.
        pq.write_table(table, path, row_group_size=16, data_page_size=250, write_batch_size=3, **options)


def paths():
    """Pictures that lie beside the file, and rows without any."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": None, "path": f"pictures/{row}.png"} for row in range(COUNT)]
    pq.write_table(pa.table({"image": pa.array(rows, kind), "label": LABELS}), note("paths.parquet", [], label=LABELS))
    mixed = [{"bytes": PICTURES[0], "path": None}, {"bytes": None, "path": "pictures/1.png"}]
    mixed += [{"bytes": None, "path": path} for path in [None, "../1.png", "pictures/none.png"]]
    table = pa.table({"image": pa.array(mixed, kind), "label": LABELS[:5]})
    pq.write_table(table, note("mixed.parquet", [], label=LABELS[:5]))


def others():
    """What is no table of pictures."""
    pq.write_table(pa.table({"id": [1, 2], "caption": ["x", "y"]}), note("captions.parquet", []))
    two = pa.table({"left": PICTURES[:2], "right": PICTURES[:2], "label": [0, 1]})
    pq.write_table(two, note("two.parquet", []))


def arrays(count, *shape):
    return random.integers(0, 256, (count, *shape), dtype=np.uint8)


def medmnist():
    """MedMNIST's own arrays, small."""

    def splits(shape, labels):
        parts = {}
        for name, count in [("train", 12), ("val", 4), ("test", 3)]:
            parts[f"{name}_images"] = arrays(count, *shape)
            parts[f"{name}_labels"] = labels(count)
        return parts

    classes = splits((5, 4), lambda count: (np.arange(count) % 2).reshape(-1, 1).astype(np.uint8))
    np.savez_compressed(OUT / "pneumonia.npz", **classes)
    np.savez(OUT / "stored.npz", **classes)
    np.savez_compressed(OUT / "chest.npz", **splits((4, 4, 3), lambda count: arrays(count, 3) % 2))
    first = classes["train_images"]
    return {"first": first[0].tobytes().hex(), "last": first[-1].tobytes().hex()}


def keras():
    parts = {"x_train": arrays(20, 4, 4), "y_train": np.arange(20) % 3, "x_test": arrays(6, 4, 4), "y_test": np.arange(6) % 3}
    np.savez(OUT / "keras.npz", **parts)
    np.savez(OUT / "plain.npz", images=arrays(6, 4, 4).astype(np.uint16) * 200, labels=np.linspace(0, 1, 6))


def broken_npz():
    images = arrays(4, 4, 4)
    labels = np.arange(4)
    np.savez(OUT / "objects.npz", images=images, labels=np.array([{}, 1, 2, 3], dtype=object))
    np.savez(OUT / "fewer.npz", images=images, labels=labels[:3])
    np.savez(OUT / "floats.npz", images=images / 255.0, labels=labels)
    np.savez(OUT / "fortran.npz", images=np.asfortranarray(images), labels=labels)
    np.savez(OUT / "channels_first.npz", images=arrays(4, 3, 8, 8), labels=labels)
    np.savez(OUT / "names.npz", pictures=images, targets=labels)


def cifar():
    """Two records in each file."""
    record = lambda *labels: bytes(labels) + arrays(3 * 1024).tobytes()
    ten = OUT / "cifar-10-batches-bin"
    hundred = OUT / "cifar-100-binary"
    for folder in [ten, hundred]:
        folder.mkdir()
    (ten / "batches.meta.txt").write_text("airplane\nautomobile\nbird\n\n")
    for name in ["data_batch_1", "data_batch_2", "test_batch"]:
        (ten / f"{name}.bin").write_bytes(record(0) + record(2))
    (hundred / "coarse_label_names.txt").write_text("fish\nflowers\n")
    (hundred / "fine_label_names.txt").write_text("ray\nrose\nshark\n")
    for name in ["train", "test"]:
        (hundred / f"{name}.bin").write_bytes(record(0, 2) + record(1, 1) + record(0, 0))


shutil.rmtree(OUT, ignore_errors=True)
for write in [hugging_face, hugging_face_lists, other_programs, kinds_of_pages, paths, others, keras, broken_npz, cifar]:
    write()
text = json.dumps({"pictures": [data.hex() for data in PICTURES], "files": FILES, "medmnist": medmnist()}, indent=1)
(OUT / "samples.json").write_text(text + "\n")
