"""From users' files to checked, memory-mapped examples."""

from __future__ import annotations

from osa.model.records.errors import DataError
from osa.model.records.fields import Field
from osa.model.records.readers import read_file
from osa.model.records.record import MAX_RECORD_BYTES, Blank, Problem, Record
from osa.model.training.data.report import Report
from osa.model.training.data.store import ExampleStore

__all__ = [
    "MAX_RECORD_BYTES",
    "Blank",
    "DataError",
    "ExampleStore",
    "Field",
    "Problem",
    "Record",
    "Report",
    "read_file",
]
