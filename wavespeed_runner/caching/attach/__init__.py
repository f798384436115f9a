"""Puts a strategy on the denoisers of a pipeline for one generation, and takes it off again."""
