"""The inference server: HTTP, batching, operations. ``app`` composes; ``cli`` starts."""
