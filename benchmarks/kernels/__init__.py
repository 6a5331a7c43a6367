"""Error and speed of ``osa::attention``, compared with softmax attention."""

from osa.model.processor import prepare

prepare()  # before torch is imported, as the server does
