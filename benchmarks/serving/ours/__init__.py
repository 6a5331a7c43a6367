"""Measurements of this project's server alone: overhead, overload, soak."""
