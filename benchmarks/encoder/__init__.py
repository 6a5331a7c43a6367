"""Speed of an encoder, compared with the same encoder with softmax attention."""

from osa.model.processor import prepare

prepare()  # before torch is imported, as the server does
