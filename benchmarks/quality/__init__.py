"""How good the vectors are."""

from osa.model.processor import prepare

prepare()  # as the server does, before anything here imports torch
