"""``osa top``: what a running server does, read from its ``/metrics`` and ``/info``."""
