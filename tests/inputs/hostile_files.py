"""What hostile files and command lines are made of."""

from __future__ import annotations

SECRET = "correct horse battery staple"
HEAD = "# @package _global_\n"
DEEP = "[" * 100_000
LONG = "9" * 5000
SOON = 3
"""Seconds of the processor's time. Each takes about one; what expands takes minutes, and what waits never ends."""
