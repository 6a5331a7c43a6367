"""Speed and error of ``osa::attention`` beside its peers."""

from osa.model.processor import prepare

prepare()  # as the server does, before anything here imports torch
