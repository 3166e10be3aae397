"""Traces of a network, its users and loads: their form, their files, and drawn ones."""
