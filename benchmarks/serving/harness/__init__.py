"""Measuring a server: load generation, processes, texts, measurements, results and report."""
