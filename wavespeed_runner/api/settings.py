"""Settings from Python: composed and checked once, as the command line does, and planned anew for every call."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from secrets import randbelow
from typing import Any

from ..config.compose import composer, drop_hydra_keys, find_key
from ..config.error_messages import EXPLAINED, explain
from ..config.familiar_names import KEYS
from ..config.limits import RAISE
from ..config.measure import MeasureConfig
from ..config.schema import to_data
from ..config.typed_text import keep_typed_texts
from ..config.wanted import refuse_wanted
from ..errors import ConfigError, did_you_mean, make_printable
from ..planning.automatic import Change
from ..planning.plan import Plan, build_plan
from ..planning.seeds import DRAW
from ..rules.prompt_seeds import ONE_PROMPT
from ..sharing.source import compose_copy
from ..sweeps.jobs import add_changes, compose_single_run, refuse_unused
from ..sweeps.own_model import add_facts, name_option
from ..sweeps.points import write_override
from .values import read_value, refuse_halves, refuse_unreadable, show_shortened

log = logging.getLogger("wavespeed_runner")

Source = str | os.PathLike[str] | Sequence[str]
"""An experiment file, or overrides as on the command line."""

UNMEASURED = {
    "measure": to_data(MeasureConfig(reference=False)),
    **{"metrics": {}, "claim": None, "prompt": None, "points": None},
}
"""What a program does not do: compare with a reference, judge, time; and its prompts come with the calls."""
UNUSED = (*UNMEASURED, "prompts.path", "prompts", "dry_run", "rerun")
"""Keys and groups that are for runs alone: in a file they are left, and who gives them here is told."""

NO_PROMPT = "-"
"""Stands for a prompt until there is one."""

CALL_KEYS = (
    *("negative_prompt", "seed", "steps", "guidance_scale", "width", "height", "num_frames", "num_images_per_prompt"),
    *("image", "mask", "strength"),
)
"""What may differ from call to call: nothing of it changes what is loaded."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A composed and checked configuration, from which each call is planned."""

    composed: dict[str, Any]
    """The application's part, plain data, interpolations unresolved."""
    typed: list[str]
    """The overrides that were given."""
    facts: list[Change]
    """What a model's own folder decided."""

    @cached_property
    def plan(self) -> Plan:
        """The plan of a call without options of its own. Raises ConfigError as `plan_call`."""
        return self.plan_call([NO_PROMPT], {})

    def plan_call(self, prompts: list[str], values: Mapping[str, Any]) -> Plan:
        """Plans one call.

        Args:
            prompts: of the call.
            values: of `CALL_KEYS`; what is None is as the settings say.

        Raises:
            ConfigError: a value that no call takes, or a rule refuses it.
        """
        given = {key: read_value(key, value) for key, value in values.items() if value is not None}
        if given.get("seed", self.composed["seed"]) == DRAW:
            given["seed"] = randbelow(2**32)  # for each call, not for each process
        composed = {**self.composed, **given}
        with explained():
            plan = _build_call_plan(composed, prompts)
            named = {"strength"} if composed.get("strength") is not None else set()
            refuse_unused(plan, {*named, *given, *map(find_key, self.typed)})
        return add_changes(plan, self.facts)


def _build_call_plan(composed: dict[str, Any], prompts: list[str]) -> Plan:
    """The plan of a call, which has no warm-up, and whose author may not be who gave the limits."""
    try:
        return build_plan(composed, prompts, warmed=False)
    except ConfigError as error:
        told, is_limit, _ = str(error).partition(RAISE)
        raise type(error)(f"{told}; the limits are those of the settings") if is_limit else error from None


def read_settings(
    source: Source,
    overrides: Sequence[str] = (),
    config_dir: str | os.PathLike[str] | None = None,
    values: Mapping[str, Any] | None = None,
    unused: Sequence[str] = (),
) -> Settings:
    """Composes and checks settings, with the checks of the command line.

    Args:
        source: an experiment file, which may be a stranger's, or a list of overrides.
        overrides: more of them, such as `cache.start=0.2`.
        config_dir: a folder of the user's own options.
        values: key -> value, likewise.
        unused: keys that would have no effect, besides those that are for runs alone.

    Raises:
        ConfigError: whatever is wrong with them; one line.
    """
    file = _check_file(source) if isinstance(source, str | os.PathLike) else None
    listed = [] if isinstance(source, str | os.PathLike) else _check_list("settings", source)
    with explained():
        given = [*listed, *_check_list("overrides", overrides), *_to_overrides(values or {})]
        _refuse_unused(given, unused)
        typed, folder = name_option(keep_typed_texts(given)), None if config_dir is None else os.fspath(config_dir)
        with compose_copy(file, folder) if file else composer(folder) as chosen:
            typed, facts = add_facts([*([chosen] if chosen else []), *typed])
            whole = refuse_wanted(compose_single_run(typed), typed)
            settings = Settings(composed=drop_hydra_keys({**whole, **UNMEASURED}), typed=typed, facts=facts)
    return settings


def tell(plan: Plan) -> None:
    """Logs what the rules doubt (warnings) and what was set automatically (info), before there are prompts."""
    for finding in plan.verdicts:
        if finding.verdict == "unverified" and finding.rule != ONE_PROMPT:
            fix = f"; {finding.fix}" if finding.fix else ""
            log.warning("%s", make_printable(f"rule {finding.rule}: {finding.message}{fix}"))
    for change in plan.changes:
        log.info("%s", make_printable(f"{change.key}={change.value}: {change.why}"))


@contextmanager
def explained() -> Iterator[None]:
    """Within it whatever a wrong configuration raises is a `ConfigError` of one line."""
    try:
        yield
    except ConfigError:
        raise
    except EXPLAINED as error:
        raise ConfigError(explain(error)) from None


def read_prompts(prompt: str | Sequence[str]) -> list[str]:
    """The prompts of a call as a list. Raises ConfigError unless it is a text or some, none of them empty."""
    prompts = [prompt] if isinstance(prompt, str) else list(prompt) if isinstance(prompt, Sequence) else [prompt]
    if not prompts or not all(isinstance(text, str) and text.strip() for text in prompts):
        raise ConfigError(f"prompt={show_shortened(prompt)}: a text or a list of texts is needed, none of them empty")
    refuse_halves("prompt", prompts)
    return prompts


def refuse_keys(values: Iterable[str], where: str) -> None:
    """Refuses keys that no call takes. where: that takes them, for the message."""
    for key in values:
        if key not in CALL_KEYS:
            ours = KEYS.get(key, "").partition("=")[0]
            near = f" (did you mean '{ours}'?)" if ours in CALL_KEYS else did_you_mean(key, CALL_KEYS)
            raise ConfigError(f"{key}: not at a call{near}; settings are given to {where}")


def _check_file(source: str | os.PathLike[str]) -> Path:
    file = Path(source)
    try:
        is_file, is_folder, exists = file.is_file(), file.is_dir(), file.exists()
    except (OSError, ValueError):  # too long for a name; a zero byte
        is_file = is_folder = exists = False
    shown = show_shortened(str(file)).strip("'\"") if len(str(file)) > 500 else str(file)
    if exists and not is_file:
        what = "a folder, not a file" if is_folder else "not a regular file"
        raise ConfigError(f"{shown}: {what}; give an experiment (export writes one), such as DIR/mine.yaml")
    if not is_file:
        hint = ": ['model=demo'] or model='demo'" if "=" in str(file) else ""
        raise ConfigError(
            f"{shown}: no such file; give an experiment (export writes one), or a list of overrides{hint}"
        )
    if file.suffix.lower() not in (".yaml", ".yml"):
        raise ConfigError(f"{file}: give an experiment file; python -m wavespeed_runner export RUN writes one of a run")
    return file


def _refuse_unused(overrides: list[str], unused: Sequence[str]) -> None:
    """Refuses what was given and would have no effect: only runs measure, and have prompts of their own."""
    for override in overrides:
        key = find_key(override)
        if key in unused:
            raise ConfigError(f"{override}: of no effect here; give it to the calls of the pipeline")
        if key in UNUSED or re.split("[./]", key)[0] in (*UNMEASURED, "hydra"):
            raise ConfigError(
                f"{override}: only runs of python -m wavespeed_runner read it; leave it out (prompts come with the "
                "calls, and nothing is measured)"
            )


def _check_list(name: str, overrides: Sequence[str]) -> list[str]:
    is_list = isinstance(overrides, Iterable) and not isinstance(overrides, str | bytes | Mapping)
    listed = list(overrides) if is_list else []
    if not is_list or not all(isinstance(override, str) for override in listed):
        raise ConfigError(f"{name}={show_shortened(overrides)}: a list of KEY=VALUE is needed")
    refuse_halves(name, listed)
    return listed


def _to_overrides(values: Mapping[str, Any]) -> list[str]:
    overrides = []
    for key, value in values.items():
        plain = os.fspath(value) if isinstance(value, os.PathLike) else value
        refuse_unreadable(key, plain)
        try:
            written = write_override(key, list(plain) if isinstance(plain, tuple) else plain)
        except (ValueError, RecursionError):  # numbers of thousands of digits, or lists in lists without end
            written = ""
        if not written:
            raise ConfigError(
                f"{key}={show_shortened(value)}: cannot be written as KEY=VALUE; give it as an override in a list"
            )
        overrides.append(written)
    return overrides
