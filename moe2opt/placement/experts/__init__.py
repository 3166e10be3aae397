"""What is known of the experts: their use, what a cache of them hits, how alike they are."""
