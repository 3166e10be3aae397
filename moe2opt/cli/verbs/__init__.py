"""One file a verb: its flags, the one function that it calls, what it prints, its exit code."""
