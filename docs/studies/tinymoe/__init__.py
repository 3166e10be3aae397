"""The small mixture of experts of `problems/placement/tinymoe`: texts, training, tables, plans."""
