"""Tasks of MTEB through running servers, with the ``mteb`` package. See ``__main__``."""
