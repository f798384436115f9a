"""Claims: a measured point as an experiment file, and whether a replay reproduces it."""
