"""The cache engine beside its peers and beside fewer steps: same weights, prompts and seeds. See `__main__.py`."""
