"""Has a stranger's tokenizers render their chat templates and read texts within bounds, in a child process.

A tokenizer's patterns may go back and forth over a text without end, or its library may panic on it. A chat template is
a program in Jinja, https://huggingface.co/docs/transformers/chat_templating. transformers runs it in a sandbox, which
keeps it from files, but not from loops and texts without end, not even while it is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, NoReturn

from ...errors import ConfigError, format_error
from ...inputs.limits import MIB
from ...process.bounded_call import BoundedCallError, call_bounded
from .chat_templates import render_same, replace_render

SECONDS = 10.0
MEMORY_BYTES, TEXT_MEMORY_BYTES = 512 * MIB, 2048 * MIB
"""A tokenizer that makes a text 5000 times longer needs some."""
MAX_CHARACTERS = 2**18
"""Of a text that a template renders: as many as a config file has; a tokenizer may make it longer."""
TEMPLATE_METHOD, TEXT_METHOD, PAD_METHOD = "apply_chat_template", "_encode_plus", "_get_padding_truncation_strategies"
"""Methods of tokenizers; whatever reads a text leads through the last two. Processors have the first one alone."""


def bound_tokenizers(where: str, components: Mapping[str, Any]) -> None:
    """Has components, and the tokenizers of processors among them, do within bounds what a text and a folder decide.

    Each rendering runs in a child, and its very text is used: a template may behave once. What
    a tokenizer makes of a text is always the same; so a child does it first, and where that ends well, it is done here.

    Args:
        where: `key=value` of their folder, for messages.
        components: name -> any object; those that are no tokenizers or processors are left as they are.
    """
    for name, part in components.items():
        for owner in (part, getattr(part, "tokenizer", None)):
            for method, bounded in BOUNDED:
                if hasattr(owner, method) and method not in vars(owner):
                    setattr(owner, method, partial(bounded, getattr(owner, method), f"{where}: component '{name}'"))


def _encode(original: Callable[..., Any], where: str, *args: Any, **kwargs: Any) -> Any:
    """What `_encode_plus` does, after a child has done the same."""
    if _is_inside.get():  # it calls itself for each text of a list
        return original(*args, **kwargs)
    token = _is_inside.set(True)
    try:
        call_bounded(_try_encode, original, args, kwargs, seconds=SECONDS, memory_bytes=TEXT_MEMORY_BYTES)
        return original(*args, **kwargs)
    except BoundedCallError as error:
        raise ConfigError(f"{where} cannot read the prompt: {error}; take it from the model's publisher") from None
    finally:
        _is_inside.reset(token)


def _decide_padding(original: Callable[..., Any], where: str, *args: Any, **kwargs: Any) -> Any:
    """How a text is filled up: before it is read, and impossible without a token for that."""
    try:
        return original(*args, **kwargs)
    except ValueError as error:
        raise ConfigError(
            f"{where}: {format_error(error)}; give it a pad_token in its tokenizer_config.json, as its publisher has it"
        ) from None


def _try_encode(original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    original(*args, **kwargs)


_is_inside: ContextVar[bool] = ContextVar("is_inside", default=False)


def _apply(original: Callable[..., Any], where: str, *args: Any, **kwargs: Any) -> Any:
    """What `apply_chat_template` does, with the texts that a child has rendered."""
    try:
        rendered = call_bounded(_render, original, args, kwargs, seconds=SECONDS, memory_bytes=MEMORY_BYTES)
    except BoundedCallError as error:
        raise ConfigError(
            f"{where}: its chat template (chat_template.jinja, or chat_template in its configuration) cannot be "
            f"rendered: {error}; take it from the model's publisher"
        ) from None
    if rendered is None:  # a tokenizer without Jinja
        return original(*args, **kwargs)
    with replace_render(lambda **_: rendered):
        return original(*args, **kwargs)


class _RenderedError(Exception):
    """Carries the texts of a rendering, and ends what would come after it."""


def _render(original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The texts alone, and where in them the assistant speaks; None where nothing was rendered. Runs in the child."""

    def render(**options: Any) -> NoReturn:
        texts, places = render_same(**options)
        if (length := sum(map(len, texts))) > MAX_CHARACTERS * len(texts):
            raise ValueError(f"it makes {length} characters, and at most {MAX_CHARACTERS} are read")
        raise _RenderedError((texts, places))

    try:
        with replace_render(render):
            original(*args, **kwargs)
    except _RenderedError as rendered:
        return rendered.args[0]
    return None


BOUNDED = ((TEMPLATE_METHOD, _apply), (TEXT_METHOD, _encode), (PAD_METHOD, _decide_padding))
"""What is done instead of each method."""
