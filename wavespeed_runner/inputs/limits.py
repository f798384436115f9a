"""The bounds of what is read from files that someone else may have written.

They are far above what runs of today need, and low enough that a hostile file is refused within a second.
"""

from __future__ import annotations

MIB = 1024 * 1024

MAX_TEXT_BYTES = 16 * MIB
"""A prompt file, or a config."""
MAX_PROMPTS = 100_000
"""Prompts of one file or record."""
MAX_CALIBRATION_BYTES = 64 * MIB
MAX_RECORD_BYTES = 256 * MIB
"""A record of 100,000 images has some 200 MB."""
MAX_JSON_BYTES = 256 * MIB
"""Any other JSON: a model's configuration, a tokenizer's vocabulary."""
MAX_HEADER_BYTES = 100_000_000
"""The header of a safetensors file; the limit of the safetensors library itself."""
MAX_IMAGE_BYTES = 256 * MIB
MAX_PIXELS = 8192 * 8192
"""Width x height of an image that is decoded."""

MAX_DEPTH = 100
"""Lists and mappings inside each other."""
MAX_NODES = 2_000_000
"""Keys and values of a YAML file, with each alias counted as often as what it stands for."""
MAX_DIGITS = 100
"""Characters of one number. Longer ones take quadratic time to read, and overflow what comes later."""
