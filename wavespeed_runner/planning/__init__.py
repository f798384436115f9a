"""Decides what will run before anything does: the graph, the reference, the prompts, the store keys."""
