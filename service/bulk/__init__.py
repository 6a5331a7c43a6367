"""Bulk embedding: files in, one Parquet file out, by the engine that the server would choose."""
