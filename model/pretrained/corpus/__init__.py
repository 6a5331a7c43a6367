"""Training text, documents and pairs from packages that anyone can install; see ``__main__``."""
