"""Orchestra, the embedded world: eight instruments, seen and heard, small enough to train on in minutes."""
