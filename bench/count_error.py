"""Mean absolute error on a table of always predicting the training mean.

    python bench/count_error.py TRAIN.csv TEST.csv COLUMN
"""

import csv
import sys

train, test, column = sys.argv[1:]
values = [[float(row[column]) for row in csv.DictReader(open(path, newline=""))] for path in (train, test)]
mean = sum(values[0]) / len(values[0])
print(f"mean {mean:.4f}  mae {sum(abs(value - mean) for value in values[1]) / len(values[1]):.4f}")
