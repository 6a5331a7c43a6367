"""Options of an encoder: parts of its configuration, and what cannot go together."""
