"""Keeps texts as they are typed: Hydra's grammar reads `prompt=1.50` as a number, which would become the text `1.5`."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Override, OverrideType, Quote, QuotedString
from hydra.errors import HydraException

from ..errors import ConfigError
from .fast.compose import parse_override

PROMPTS = ("prompt", "negative_prompt", "model.negative_prompt")
"""Keys whose values are any text."""
NAMES = (
    "image",
    "mask",
    "outputs",
    "prompts.path",
    "model.repo",
    "model.revision",
    "model.components",
    "model.vae",
    "model.weights",
    "adapters.path",
)
"""Keys whose values are names: `outputs=2026.10` is no number, and the commit `12e4567` not infinity."""
ESCAPED_BRACKETS = ("\\(", "\\)", "\\[", "\\]")
"""Hydra takes such a backslash away; in a prompt it says that the bracket is a letter, and no markup."""


def keep_typed_texts(overrides: list[str]) -> list[str]:
    """Quotes the values of texts that Hydra's grammar would read as something else, each with what was typed.

    `null` stays null, an interpolation an interpolation, and what cannot be read stays as it is: its error is explained
    where it is parsed.

    Raises:
        ConfigError: a sweep over texts of which some are numbers, in a form in which they cannot be told apart.
    """
    return [_keep_typed_text(override) for override in overrides]


def refuse_numbers(composed: dict[str, Any]) -> None:
    """Refuses a prompt that a YAML file has as a number or as true: what was typed there is lost.

    Raises:
        ConfigError: shows how to quote it.
    """
    model = composed.get("model")
    values = {**composed, **{f"model.{k}": v for k, v in (model if isinstance(model, dict) else {}).items()}}
    for key in PROMPTS:
        _refuse_number(key, values.get(key))
    group = composed.get("prompts")
    texts = group.get("texts") if isinstance(group, dict) else None
    for number, text in enumerate(texts if isinstance(texts, list) else ()):
        _refuse_number(f"prompts.texts.{number}", text)


def _refuse_number(key: str, value: Any) -> None:
    if isinstance(value, bool | int | float):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        raise ConfigError(f"{key}={text}: a text is needed, and YAML reads this as another value; {key}: '{text}'")


def _keep_typed_text(override: str) -> str:
    key, equals, typed = override.partition("=")
    if not equals or key.lstrip("+") not in (*PROMPTS, *NAMES) or "${" in typed:
        return override
    try:
        parsed = parse_override(override)
    except (HydraException, ConfigError):
        return override
    if parsed.type not in (OverrideType.CHANGE, OverrideType.ADD, OverrideType.FORCE_ADD):
        return override
    value = parsed.value()
    if isinstance(value, ChoiceSweep):
        return _keep_typed_choice(key, typed.strip(), value, parsed)
    is_prompt = key.lstrip("+") in PROMPTS
    if isinstance(value, bool | int | float) or (is_prompt and isinstance(value, list | dict)):
        return f"{key}={_quote(typed.strip())}"
    if is_prompt and isinstance(value, str) and any(mark in typed for mark in ESCAPED_BRACKETS):
        quoted = isinstance(parsed._value, QuotedString)
        return override if quoted else f"{key}={_quote(_unescape(typed.strip()))}"
    return override


def _keep_typed_choice(key: str, typed: str, sweep: ChoiceSweep, parsed: Override) -> str:
    """`prompt=a,1.50` with every value that is no text quoted; `choice(...)`, which drops quotes, in the same form."""
    is_choice = typed.startswith("choice(") and typed.endswith(")")
    plain = [isinstance(value, str | QuotedString) or value is None for value in sweep.list]
    escaped = any(mark in typed for mark in ESCAPED_BRACKETS)
    if all(plain) and not is_choice and not escaped:
        return f"{key}={typed}"
    parts = _split_commas(typed[len("choice(") : -1] if is_choice else typed)
    if escaped and len(parts) == len(plain):
        parts = [part if part[:1] in ("'", '"') else _quote(_unescape(part)) for part in parts]
    if len(parts) != len(plain) or not (sweep.simple_form or is_choice):
        raise ConfigError(f"{parsed.input_line}: numbers among texts; put each of them in quotes")
    return f"{key}={','.join(part if is_text else _quote(part) for part, is_text in zip(parts, plain, strict=True))}"


def _split_commas(text: str) -> list[str]:
    """Splits at commas outside of quotes and brackets."""
    parts, start, depth, quote = [], 0, 0, ""
    for place, character in enumerate(text):
        escaped = place > 0 and text[place - 1] == "\\"
        if quote:
            quote = "" if character == quote and not escaped else quote
        elif character in "'\"" and not escaped:
            quote = character
        elif character in "([{" and not escaped:
            depth += 1
        elif character in ")]}" and not escaped:
            depth -= 1
        elif character == "," and not depth and not escaped:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]


def _unescape(text: str) -> str:
    """Takes away the backslashes that Hydra's grammar needs, but not those before brackets."""
    for mark in ",=:{} \t":
        text = text.replace(f"\\{mark}", mark)
    return text


def _quote(text: str) -> str:
    return QuotedString(text=text, quote=Quote.double).with_quotes()
