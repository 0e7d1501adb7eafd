"""Class folders as a Parquet file, as pyarrow writes one: python bench/parquet.py FOLDER FILE"""

import pathlib
import sys

import pyarrow
import pyarrow.parquet

folder, file = sys.argv[1:]
pictures = sorted(path for path in pathlib.Path(folder).rglob("*") if path.is_file())
kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
rows = [{"bytes": path.read_bytes(), "path": path.name} for path in pictures]
labels = [path.relative_to(folder).parts[0] for path in pictures]
table = pyarrow.table({"image": pyarrow.array(rows, kind), "label": labels})
pyarrow.parquet.write_table(table, file, row_group_size=1000)
