"""Numbers about a model that some strategies need: recorded from uncached runs, written, read, filled in."""
