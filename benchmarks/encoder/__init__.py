"""How fast an encoder is, beside the same encoder with softmax attention."""

from osa.model.processor import prepare

prepare()  # as the server does, before anything here imports torch
