"""How alike images are (`quality`), how long things take and how much memory (`timing`)."""
