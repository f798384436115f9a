"""What will run, before anything does: the graph, the reference, store keys, rules."""
