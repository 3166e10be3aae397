"""Fits of measured runs: seconds and joules as functions of bytes, with their hold-out errors."""
