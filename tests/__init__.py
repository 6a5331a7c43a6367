"""Every level of tests. Like the server, it settles what the processor is used for before torch."""

from osa.model.processor import prepare

prepare()
