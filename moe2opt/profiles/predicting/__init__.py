"""Predictions from fits and tables: seconds, joules and intervals of a request."""
