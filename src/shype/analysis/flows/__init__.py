"""Where information can flow: the graph of a policy, its closure, and the paths in it."""
