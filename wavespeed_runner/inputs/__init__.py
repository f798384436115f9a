"""Reads files that someone else may have written: which may be read, and within which bounds (docs/trust.md).

`files` decides whether a path may be read and reads it; `documents` reads JSON, YAML and safetensors headers; `images`
decodes. Every other room reads such files through these three, and `tests/inputs/test_boundary.py` holds it.
"""
