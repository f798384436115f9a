"""The content-addressed store, and the one way in which files are written."""
