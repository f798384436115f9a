"""What hostile files and command lines are made of."""

from __future__ import annotations

SECRET = "correct horse battery staple"
HEAD = "# @package _global_\n"
DEEP = "[" * 100_000
LONG = "9" * 5000
SOON = 15
"""Seconds. Each takes less than one on a machine with nothing else to do; what hangs or expands takes minutes."""
