"""Attaches a cache strategy to the denoisers of a pipeline for one generation, and takes it off again."""
