"""``osa embed``: throughput of one process and of workers."""
