"""Explains a key or a group that does not exist: what it is called here, or to which option it belongs."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import OmegaConf

from .. import registry
from ..errors import did_you_mean
from .absent import ABSENT_KEYS, explain_absent_option
from .familiar import is_switched_off, translate_key
from .familiar_caches import explain_cache_key, explain_cache_part, explain_renamed
from .familiar_models import explain_model_word
from .familiar_names import ALTERNATIVES, NESTED, OTHER_NAMES
from .familiar_schedules import explain_schedule, explain_spacing
from .paths import CONF, list_groups
from .suggestions import choose_accepted, find_given

SCHEMA = re.compile(r"/schema/[\w/]+/(\w+)@_here_")
"""In an option's file: the registered class of its keys."""
PLACEHOLDER = re.compile(r"=(VALUE|NAME|PIXELS|FILE)\b")
"""In overrides that cannot be tried as they are."""
CUSTOM = "custom"
"""The option of a group whose parts are chosen one by one, and which sets no keys of theirs."""
OWNERS = 4
"""Most options that a message names."""
NOTES = {
    "clip_skip": " (A1111 counts one more: its Clip skip 2 is 1 here)",
    "denoise": " (ComfyUI runs all its steps, here that part of them runs: 30 at 0.6 are steps=50 strength=0.6; steps "
    "typed beside it are counted)",
}
"""What a key that other tools have under the same name means otherwise."""


def explain_unknown_group(name: str) -> str:
    """Explains a group, or a part of one, that the command line chose an option of."""
    if name in list_groups():
        return f"{name}: the chosen option of '{name.partition('/')[0]}' has no such part; choose another"
    return f"{name}: no such config group{did_you_mean(name, list_groups())}"


def explain_unknown_key(key: str, error: Any, typed: str) -> str:
    """Explains a key that the composed config does not have.

    Args:
        key: dotted, the first part of it that does not exist at its end.
        error: OmegaConf's, which has the node that was looked in.
        typed: the override as typed; empty for a key in a file.
    """
    if "/" in key:
        return explain_unknown_group(key)
    above, _, last = key.rpartition(".")
    if told := _explain_place(above, last, typed):
        return f"{key}: {told}"
    if above in ("", "cache") and (ours := _translate(key, typed)):
        return f"{key}: no such key; {ours}"
    valid, group, value = _list_valid_keys(error), above.replace(".", "/"), _read_value(key, typed)
    if renamed := NESTED.get(above, {}).get(last.lower()):
        if renamed == "sigmas" and (told := explain_spacing(value, typed, list_shipped_options("sampler"))):
            return f"{key}: no such key; {told}"
        if renamed.partition(".")[0] in valid:
            return f"{key}: no such key; {explain_renamed(above, last, renamed, value)}"
        last = renamed
    near = did_you_mean(last, valid)
    if (
        group in list_groups()
        and "did you mean" not in near
        and (owners := find_owners(group, _find_near(group, last)))
    ):
        way, refusal = _choose_way(group, _find_near(group, last), owners, value, typed)
        named = _name_owners(group, owners)
        start = ": -m " if group.startswith("hydra/") else ": "
        return f"{key}: no key of the chosen option of {group}, but of {named}{_offer(start + ' '.join(way), refusal)}"
    if valid == ["name"] and group in list_groups():
        options = [path.stem for path in sorted((CONF / group).glob("*.yaml")) if path.stem != "none"]
        return f"{key}: the chosen option of {group} has no keys; choose another first: {group}={'|'.join(options)}"
    add = "" if is_dataclass(error.object_type) or "did you mean" in near else f"; to add one: +{key}=VALUE"
    return f"{key}: no such key{near}{add if not key.startswith('hydra.') else ''}"


def _explain_place(above: str, key: str, typed: str) -> str:
    """What is wrong with where a key stands, rather than with the key; empty where it is the key."""
    if not above and key == "experiment":
        return "an experiment file begins with the line '# @package _global_'"
    if above == "metrics" and key in list_shipped_options("metrics"):
        return f"it is not chosen; metrics={key} chooses it, metrics=[{key},...] several"
    group = above.replace(".", "/")
    whole, _, part = group.partition("/")
    is_part = part and group in list_groups() and CUSTOM in list_shipped_options(whole)
    if typed or not is_part or not find_owners(group, key):
        return ""
    # `cache=fbcache cache/criterion=interval`: the option's file sets keys of the part that was replaced.
    return (
        f"no key of the chosen option of {group}; the file of the chosen {whole} sets it, for a {part} of its own: "
        f"{whole}={CUSTOM} {group}=NAME takes any"
    )


def _translate(key: str, typed: str) -> str:
    """How a top-level key is written here, or one of the cache that has no one key of the same meaning; else empty."""
    if key.startswith("cache."):
        return explain_cache_part(key, _read_value(key, typed), typed, _tell_way)
    return _translate_top_level(key, typed)


def _translate_top_level(key: str, typed: str) -> str:
    """How a top-level key that does not exist is written here: by another tool's name, an option's, a nested key's."""
    value = _read_value(key, typed)
    if is_switched_off(key, value):
        return "leave it out: it is off unless it is asked for"
    if told := (
        explain_schedule(key, value, typed, list_shipped_options("sampler"))
        or explain_model_word(key, value, typed, _tell_way)
        or explain_cache_key(key, value, typed, _tell_way)
    ):
        return told
    if ours := translate_key(key, value, list_shipped_options):
        return _tell_familiar(ours, typed) + NOTES.get(key, "")
    if absent := ABSENT_KEYS.get(key.lower()):
        return absent
    groups = [group for group in list_groups() if group != "experiment" and not group.startswith("hydra")]
    if group := next((group for group in groups if "/" not in group and key in list_shipped_options(group)), ""):
        return f"here it is {group}={key}"
    key = OTHER_NAMES.get(key, key)
    found = [(group, owners) for group in groups if (owners := find_owners(group, key))]
    ways = [(group, owners, *_choose_way(group, key, owners, value, typed)) for group, owners in found]
    if fitting := list(dict.fromkeys(" ".join(way) for _, _, way, refusal in ways if not refusal)):
        return f"here it is {' or '.join(fitting[:2])}" + NOTES.get(key, "")
    for group, owners, _, refusal in ways:
        if refusal.startswith(f"{group}.{key}: no key"):
            return f"it is {group}.{key}, a key of {_name_owners(group, owners)}, not of the chosen {group}"
        return f"it is a key of {_name_owners(group, owners)}{_offer('', refusal)}"
    return ""


def _tell_familiar(ours: list[str], typed: str) -> str:
    """What a key of another tool is here, and why that is refused if it is."""
    group, _, option = ours[-1].partition("=")
    if group in list_groups() and (absent := explain_absent_option(group, option, typed)):
        return absent
    way, refusal = ours, ""
    if not PLACEHOLDER.search(" ".join(ours)):
        others = [[ALTERNATIVES[ours[-1]]]] if ours[-1] in ALTERNATIVES else []
        way, refusal = choose_accepted(typed, [ours, *others])
    return _tell_way(way, refusal)


def _tell_way(way: list[str], refusal: str) -> str:
    written = " ".join(map(_quote, way))
    return f"here it is {written}" + (f", which is refused: {refusal}" if refusal else "")


def _quote(override: str) -> str:
    """The override as a shell takes it where its value has blanks."""
    key, _, value = override.partition("=")
    return f"{key}={shlex.quote(value)}" if re.search(r"\s", value) else override


def _choose_way(group: str, key: str, owners: list[str], value: str, typed: str) -> tuple[list[str], str]:
    """The overrides that set a key of a group, and why each way to do it is refused; empty: this one is not.

    Like `cache=fbcache cache.residual_diff_threshold=0.1`; without an option where all have the key.
    """
    one = f"{group.replace('/', '.')}.{key}={value}"
    # A key of models that was typed without its group is meant for the model that is chosen.
    is_chosen = "none" in owners or (group == "model" and "." not in typed.partition("=")[0])
    typed = "" if group.startswith("hydra/") else typed  # a launcher is for a sweep, and one job is tried
    ways = [[one]] if is_chosen else [[f"{group}={owner}", one] for owner in owners]
    if (group, key) == ("sampler", "shift") and find_given("model") in find_owners("model", "shift"):
        ways.insert(0, [f"model.shift={value}"])  # another sampler is not wanted
    return choose_accepted(typed, ways)


def _name_owners(group: str, owners: list[str]) -> str:
    return ", ".join(f"{group}={owner}" for owner in owners[:OWNERS]) + (", ..." if len(owners) > OWNERS else "")


def _offer(way: str, refusal: str) -> str:
    """The way out, or why there is none."""
    return f"; here it is refused: {refusal}" if refusal else way


def _read_value(key: str, typed: str) -> str:
    """The value as typed; `VALUE` where a part of the key, or a key in a file, is what does not exist."""
    return typed.partition("=")[2] if typed.startswith(f"{key}=") else "VALUE"


def find_owners(group: str, key: str) -> list[str]:
    """The shipped options of a group that have a key of this name."""
    return [option for option, keys in _list_keys(group).items() if key in keys]


def _find_near(group: str, key: str) -> str:
    """The nearest key that any option of the group has; the key itself where none is near."""
    every = {name for keys in _list_keys(group).values() for name in keys} - {"name"}
    match = re.search(r"did you mean '(\w+)'", did_you_mean(key, every)) if key not in every else None
    return match[1] if match else key


def _list_keys(group: str) -> dict[str, list[str]]:
    """The keys of each shipped option of a group, in the order in which their classes are registered."""
    classes = {e.name: [field.name for field in fields(e.options)] for e in registry.list_entries() if e.group == group}
    texts = {option: (CONF / group / f"{option}.yaml").read_text("utf-8") for option in list_shipped_options(group)}
    if group.startswith("hydra/"):
        return {option: re.findall(r"^(\w+):", text, re.MULTILINE) for option, text in texts.items()}
    schemas = {option: match[1] for option, text in texts.items() if (match := SCHEMA.search(text))}
    # An option of the class's own name stands for its presets, `euler` for `euler_karras`.
    own = {name: keys for name, keys in classes.items() if name in texts}
    named = {o: classes[s] for o, s in schemas.items() if s in classes and (s not in texts or o == s)}
    return own | named


def list_shipped_options(group: str) -> list[str]:
    """The names of a group's shipped options."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def _list_valid_keys(error: Any) -> list[str]:
    """Keys of the node in which the wrong key was looked up."""
    if is_dataclass(error.object_type):
        return [field.name for field in fields(error.object_type)]
    node = error.parent_node
    return [str(name) for name in node] if node is not None and OmegaConf.is_dict(node) else []
