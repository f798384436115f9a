"""Images and videos: reading, writing, the metadata they carry."""
