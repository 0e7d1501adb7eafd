//! Files that hold many files.

mod parquet;
