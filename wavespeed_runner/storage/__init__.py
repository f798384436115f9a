"""The content-addressed store, and the one function that writes files."""
