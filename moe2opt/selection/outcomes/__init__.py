"""Who answers which prompt: outcome files and folders, and the cluster tables made from them."""
