"""Served models: loading, registry, health."""
