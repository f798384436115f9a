"""Renders the chat templates of a stranger's tokenizers in a child process with bounds.

A chat template is a program in Jinja, https://huggingface.co/docs/transformers/chat_templating. transformers runs it in
a sandbox, which keeps it from files, but not from loops and texts without end, not even while it is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

from ...errors import ConfigError
from ...inputs.limits import MIB
from ...process.bounded_call import BoundedCallError, call_bounded

SECONDS = 10.0
MEMORY_BYTES = 512 * MIB
METHOD = "apply_chat_template"
RENDER = "render_jinja_template"
"""The function of transformers that both tokenizers and processors render with."""


def bound_chat_templates(where: str, components: Mapping[str, Any]) -> None:
    """Has components, and the tokenizers of processors among them, render their templates within bounds.

    Each rendering runs in a child, and its very text is used: a template may draw random numbers, and behave once.

    Args:
        where: `key=value` of their folder, for messages.
        components: name -> any object; those without templates are left as they are.
    """
    for name, part in components.items():
        for owner in (part, getattr(part, "tokenizer", None)):
            if hasattr(owner, METHOD) and METHOD not in vars(owner):
                setattr(owner, METHOD, partial(_apply, getattr(owner, METHOD), f"{where}: component '{name}'"))


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
    with _replace_render(lambda **_: rendered):
        return original(*args, **kwargs)


class _RenderedError(Exception):
    """Carries the texts of a rendering, and ends what would come after it."""


def _render(original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The texts alone, and where in them the assistant speaks; None where nothing was rendered. Runs in the child."""
    from transformers.utils.chat_template_utils import render_jinja_template

    def render(**options: Any) -> NoReturn:
        raise _RenderedError(render_jinja_template(**options))

    try:
        with _replace_render(render):
            original(*args, **kwargs)
    except _RenderedError as rendered:
        return rendered.args[0]
    return None


@contextmanager
def _replace_render(function: Callable[..., Any]) -> Iterator[None]:
    """Has transformers render with a function of ours."""
    from transformers import processing_utils, tokenization_utils_base

    modules = (processing_utils, tokenization_utils_base)
    before = [getattr(module, RENDER) for module in modules]
    for module in modules:
        setattr(module, RENDER, function)
    try:
        yield
    finally:
        for module, original in zip(modules, before, strict=True):
            setattr(module, RENDER, original)
