"""Plans that follow the network, the user and the load; caches of experts replayed on traces."""
