"""What lies on the disk: how files are written, whole or not at all."""
