"""What several benchmarks share: facts of the machine, timing, tables, plots, report files."""

from osa.model.processor import prepare

prepare()  # before torch is imported
