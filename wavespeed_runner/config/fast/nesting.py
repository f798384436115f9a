"""Refuses overrides nested too deep, before they are parsed."""

from __future__ import annotations

import re

from ...errors import ConfigError
from ...inputs.limits import MAX_DEPTH

QUOTED = re.compile(r"""'(?:[^'\\]++|\\.)*+'|"(?:[^"\\]++|\\.)*+\"""", re.DOTALL)
"""A text in quotes, in which brackets are text."""


def refuse_depth(override: str) -> None:
    """ConfigError for lists, mappings and calls nested too deep, which Hydra's parser follows into Python's stack."""
    if sum(map(override.count, "[{(")) <= MAX_DEPTH:
        return
    depth = 0
    for bracket in re.findall(r"[\[{(\]})]", QUOTED.sub("", override)):
        depth += 1 if bracket in "[{(" else -1
        if depth > MAX_DEPTH:
            raise ConfigError(
                f"{override[:60]}...: more than {MAX_DEPTH} levels of lists, mappings and calls; write fewer"
            )
