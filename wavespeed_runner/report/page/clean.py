"""Where text enters the page: nothing in it acts on a terminal that it is copied into, or turns the writing around.

Prompts, names of devices and folders, reasons and overrides come from records, which may be a stranger's.
"""

from __future__ import annotations

from typing import Any

from ...errors import hide_controls


def clean_value(value: Any) -> Any:
    """What the template puts into the page; marked-up text of our own stays as it is."""
    return hide_controls(value) if type(value) is str else value


def clean_data(data: Any) -> Any:
    """The data of the scripts, all texts and keys in it cleaned."""
    if isinstance(data, dict):
        return {clean_value(key): clean_data(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [clean_data(value) for value in data]
    return clean_value(data)
