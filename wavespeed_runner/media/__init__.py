"""Images and videos as files: reading, writing, metadata, contact sheets."""
