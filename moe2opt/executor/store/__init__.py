"""Where the weights of a plan lie: formats, merging, layout, and the memories themselves."""
