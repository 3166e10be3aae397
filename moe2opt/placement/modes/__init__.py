"""Treatments of a layer, one file each."""
