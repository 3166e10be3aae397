"""Tables of devices, models and measured runs: reading and checking them."""
