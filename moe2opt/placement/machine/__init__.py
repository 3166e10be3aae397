"""The machine: memories and links, and what was measured on them."""
