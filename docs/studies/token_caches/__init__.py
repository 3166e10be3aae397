"""Optima and thresholds of token caches, found by other means than the package's."""
