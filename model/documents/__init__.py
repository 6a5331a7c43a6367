"""Documents as chunks, and as a few vectors each."""
