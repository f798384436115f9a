"""Checks what `export` is about to write: that it can be planned, and that no link leads it elsewhere."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from ..config import trust
from ..config.error_messages import EXPLAINED, explain
from ..errors import ConfigError, format_error, make_printable
from ..inputs.files import InputError, find_place, is_within
from ..planning.plan import build_plan

OF_THE_MACHINE = (
    "model.repo",
    "model.components",
    "model.vae",
    "image",
    "mask",
    "prompts.path",
    "adapters",
    "cache.calibration",
    "metrics",
    "device",
    "attention",
    "quant",
    "compile",
    "memory",
    "parallel",
    "accelerate",
    "graph.stages",
)
"""Keys whose files, packages or hardware this machine may lack: a record is exported on another one than it ran on."""
KEY = re.compile(r"[a-z_]\w*(\.\w+)*(?=[=:])", re.ASCII)


def refuse_unplannable(path: Path, config: dict[str, Any], prompts: list[str] | None = None) -> None:
    """Refuses a config that no run could have had, so that nothing is written of it that `replay` then refuses.

    What only this machine lacks (`OF_THE_MACHINE`) is no reason.

    Args:
        path: the record or image, for messages.
        config: the resolved config in it.
        prompts: those of the run; None takes them from the config.

    Raises:
        ConfigError: the reason, and the file.
    """
    trust.check_values(config)
    with tempfile.TemporaryDirectory() as folder:
        places: dict[str, Any] = {"outputs": folder, "claim": None, "limits": {}, "dry_run": False, "rerun": True}
        try:
            build_plan({**trust.remove_places(config), **places, **({"prompt": None} if prompts else {})}, prompts)
        except EXPLAINED as error:
            reason = explain(error)
        except (InputError, ImportError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            reason = format_error(error)
        else:
            return
    if not _is_of_the_machine(reason):
        raise ConfigError(make_printable(f"{path}: its config cannot be run, so it is not exported: {reason}"))


def _is_of_the_machine(reason: str) -> bool:
    key = match[0] if (match := KEY.match(reason)) else ""
    return any(key == own or key.startswith(f"{own}.") for own in OF_THE_MACHINE)


def refuse_linked_folder(target: Path) -> None:
    """Refuses a default place of an export that a link in the folder where the command runs leads elsewhere.

    Raises:
        ConfigError: names the link's place, and the way out.
    """
    try:
        if is_within(target, [Path.cwd()]):
            return
        place = str(find_place(target.parent))
    except OSError as error:
        place = format_error(error)
    raise ConfigError(
        f"{target}: {target.parent} is a link that leads elsewhere ({place}); remove it, or give the place yourself, "
        "out=FILE"
    )
