"""Runs an image, a video, a record, a config or an exported experiment again and says whether the result is the same.

Everything is computed again, nothing is taken from the store. Of an exported experiment the claimed figures are judged,
see `verdict.py`. Of a record they are shown beside the new ones.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import trust
from ..config.error_messages import EXPLAINED, explain
from ..errors import ConfigError, format_error, make_printable
from ..execution.runner import run_plan
from ..planning.plan import Plan, build_plan
from ..process.logging_setup import log_to
from ..records.record import Record
from ..report.console import show, show_failure
from .source import machine_of, read
from .verdict import CLAIM, IMAGES, NOT_REPRODUCED, Judged, judge, verdict_of
from .verdict_text import headline

if TYPE_CHECKING:
    from ..config.claim import ClaimConfig

GIVE = re.compile(r"; give (?!prompts\.path=)[\w.]+=VALUE$")
"""A way out that this command does not have."""
OTHER = "other weights, or the config was edited"


def replay(path: Path, values: dict[str, str]) -> bool:
    """Runs what a file describes again and prints how the result compares.

    Args:
        path: an image, a video, `record.json`, `config.yaml`, or an exported experiment.
        values: by key, what the command line says otherwise: where results go, the device, files that are elsewhere.

    Returns:
        Whether the images are the same, or the claim holds, or there was nothing to compare with.

    Raises:
        ConfigError: the file cannot be replayed.
    """
    plan, claims = _planned(path, values)
    folder = Path(plan.config.outputs) / "runs" / f"{datetime.now():%Y-%m-%d/%H-%M-%S-%f}-replay"
    log_to(folder)
    record = run_plan(plan, folder, [f"replay={path}"])
    if record.status != "completed":
        show_failure(record, folder)
        return False
    show(record, folder)
    if plan.config.claim is not None:
        return _judge(record, plan.config.claim)
    same = _compare(record, claims, plan.fingerprint)
    _show_figures(record, claims.get("claim"))
    return same


def _planned(path: Path, values: dict[str, str]) -> tuple[Plan, dict[str, Any]]:
    """The plan of what the file says, and what it claims.

    Raises:
        One of `messages.EXPLAINED`, whatever is in the file: it may come from a stranger.
    """
    try:
        config, claims = read(path)
        prompts = claims.get("prompts")
        if prompts:
            # Given as they are: what looks like an interpolation in a prompt is none.
            config = {**config, "prompt": None}
        if "prompts.path" in values:
            if prompts:
                raise ConfigError(f"prompts.path={values['prompts.path']}: {path} says what its prompts are")
            config = {**config, "prompt": None, "prompts": {"path": values["prompts.path"]}}
        elif not prompts and config.get("prompt") is None:
            trust.check_prompt_file(config)
        trust.check_images(config, (f"{key}=" for key in values))
        given = {key: value for key, value in values.items() if key != "prompts.path"}
        config = {**config, "outputs": "outputs", **given, "dry_run": False, "rerun": True}
        trust.check_values(config)
        return build_plan(config, prompts), claims
    except EXPLAINED as error:
        raise ConfigError(_in_file(explain(error), path, values)) from None
    except Exception as error:
        raise ConfigError(
            f"{path}: nothing that a run has left: {type(error).__name__}: {format_error(error)}"
        ) from error


def _in_file(said: str, path: Path, values: dict[str, str]) -> str:
    """The message with the file in which to look, unless the command line is to blame."""
    given = any(said.startswith(f"{key}={value}") for key, value in values.items())
    return said if given or str(path) in said else f"{GIVE.sub('', said)}; in {path}"


def _judge(record: Record, claim: ClaimConfig) -> bool:
    """Says whether the claim holds, part by part, and what else is to be known."""
    parts = judge(claim, record)
    print(make_printable(f"replay: {headline(claim, record, parts)}"))
    _print(parts)
    return verdict_of(parts) != NOT_REPRODUCED


def _show_figures(record: Record, claim: ClaimConfig | None) -> None:
    """The figures of a record that was run again, beside its own: no verdict, the images have given that."""
    parts = judge(claim, record) if claim is not None else []
    _print([replace(part, verdict=None, better=False) for part in parts if part.what not in (CLAIM, IMAGES)])


def _print(parts: list[Judged]) -> None:
    for part in parts:
        more = ", better than claimed" if part.better else ""
        print(f"  {part.what:16}{make_printable(part.text)}{more}" + (f": {part.verdict}" if part.verdict else ""))


def _compare(record: Record, claims: dict[str, Any], fingerprint: str) -> bool:
    """Says how the new images compare with the claimed ones."""
    claimed = claims.get("pixels", {})
    found = {(sample.prompt, sample.seed): sample.pixels_sha256 for sample in record.samples}
    if not claimed:
        print("replay: done; there was no earlier result to compare with")
        return True
    same = sum(found.get(key) == digest for key, digest in claimed.items())
    if same == len(claimed):
        machine = claims.get("machine") == machine_of(record)
        other = machine and claims.get("fingerprint") != fingerprint
        though = f"; {OTHER} (the fingerprints differ)" if other else ""
        print(f"replay: identical, {same} of {len(claimed)} images are the same, pixel for pixel{though}")
        return True
    why = "; nothing else differs: the file was edited, or this machine does not repeat itself"
    if claims.get("fingerprint") != fingerprint:
        why = _why(claims, record)
    print(make_printable(f"replay: not identical, {same} of {len(claimed)} images are the same{why}"))
    return False


def _why(claims: dict[str, Any], record: Record) -> str:
    """What differs between the two machines, where the claim says what it was."""
    then, now = claims.get("machine"), machine_of(record)
    if not then:
        return "; other versions, other hardware or other weights (the fingerprints differ)"
    differing = [f"{key} {then.get(key)} -> {value}" for key, value in now.items() if then.get(key) != value]
    if differing:
        return f"; what changed: {', '.join(differing)}"
    return f"; {OTHER} (the fingerprints differ)"
