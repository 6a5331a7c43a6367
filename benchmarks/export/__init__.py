"""Speed of exported artifacts."""

from osa.model.processor import prepare

prepare()  # before torch is imported, as the server does
