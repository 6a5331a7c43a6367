"""The objectives behind ``osa train``, and what they learn from."""
