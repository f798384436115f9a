"""Measures of a run: image quality against a reference, times, memory, and their statistics."""
