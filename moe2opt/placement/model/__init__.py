"""Reading a model: its shape, its files, its weight formats."""
