"""Tests of all levels. Sets the processor's environment variables before torch is imported."""

from osa.model.processor import prepare

prepare()
