"""Encoders alone, without servers: each in a process and an environment of its own."""
