"""The HTTP server: composition, admission, connections."""
