"""Everything of the project that a CUDA device can prove, as one command: ``check.sh``."""
