"""The model that ships: a checkpoint directory ``default`` beside its card, ``README.md``."""
