"""Whether a chat template is a function of the chat alone, and has the prompt in what it makes of it.

A template is a program in Jinja, https://huggingface.co/docs/transformers/chat_templating. It may draw random numbers,
read the clock, write where in memory something lies, or leave the prompt out: the same command would make another
image each time, or one for all prompts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, NoReturn

RENDER = "render_jinja_template"
"""The function of transformers that both tokenizers and processors render with."""
DATES = (datetime(2001, 2, 3, 4, 5, 6, 7), datetime(2032, 11, 24, 13, 48, 59, 123456))
"""Two that have no field in common, for a template that asks for the date; published ones have defaults that do."""
DRAWS = ("choice", "choices", "randint", "random", "randrange", "sample", "shuffle", "uniform")
"""Functions that Jinja's `random` and `lipsum` draw with."""
Rendered = tuple[list[str], Any]
"""The texts, and where in them the assistant speaks."""


class TemplateError(ValueError):
    """A template does what none may, however it is asked."""


@contextmanager
def _replace(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def replace_render(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Has transformers render with a function of ours; gives its own one."""
    from transformers import processing_utils, tokenization_utils_base
    from transformers.utils.chat_template_utils import render_jinja_template

    with ExitStack() as stack:
        for module in (processing_utils, tokenization_utils_base):
            stack.enter_context(_replace(module, RENDER, function))
        yield render_jinja_template


def render_same(dates: tuple[datetime, datetime] = DATES, **options: Any) -> Rendered:
    """What transformers renders, twice; the first is what counts, whatever the date.

    Raises:
        TemplateError: the two differ, or a text of a user is in none of them.
    """
    from transformers.utils import chat_template_utils

    compiler = chat_template_utils._compile_jinja_template
    kept = compiler(options["chat_template"])  # so that the functions in the second one lie elsewhere
    first = _render_at(dates[0], options)
    compiler.cache_clear()
    # So does what the second rendering makes: the free places in memory are taken.
    clutter: list[Any] = [({}, [], set(), str, range(each), bytearray(8 * (each % 64))) for each in range(10_000)]
    second = _render_at(dates[1], options)
    del kept, clutter
    if first != second:
        raise TemplateError(
            "it makes another text of the same messages each time (of the date, or of a place in memory)"
        )
    for chat, text in zip(options["conversations"], first[0], strict=True):
        if any(said.strip() not in text for said in _list_said(chat)):
            raise TemplateError("it leaves the prompt out, so prompts would be dropped")
    return first


def _render_at(date: datetime, options: Mapping[str, Any]) -> Rendered:
    from transformers.utils import chat_template_utils

    with ExitStack() as stack:
        stack.enter_context(_replace(chat_template_utils, "datetime", SimpleNamespace(now=lambda: date)))
        for name in DRAWS:
            stack.enter_context(_replace(random, name, _refuse_draw))
        texts, places = chat_template_utils.render_jinja_template(**options)
        return texts, places


def _refuse_draw(*_args: Any, **_kwargs: Any) -> NoReturn:
    raise TemplateError("it draws random numbers (random, lipsum), so that each run would have another prompt")


def _list_said(chat: Any) -> Iterator[str]:
    """Texts of the user in a chat."""
    for message in chat:
        content = message.get("content") if message.get("role") == "user" else None
        parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
        yield from (text for part in parts if isinstance(part, dict) and isinstance(text := part.get("text"), str))


def refuse_template(owner: Any, text: str) -> None:
    """Raises `TemplateError` for a tokenizer or processor whose template fails in every kind of chat.

    Not for the date, nor for one that cannot be rendered: that is told where a pipeline uses it, and many use none.
    """
    if getattr(owner, "chat_template", None) is None or not hasattr(owner, "apply_chat_template"):
        return
    failures = []
    with replace_render(partial(render_same, (DATES[0], DATES[0]))):
        for chat in _list_chats(text):
            with suppress(Exception):
                try:
                    owner.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
                    return
                except TemplateError as error:
                    failures.append(error)
    if failures:
        raise TemplateError(f"its chat template: {failures[0]}")


def _list_chats(text: str) -> Iterator[list[dict[str, Any]]]:
    """Chats as pipelines have them: with a text or parts of one, with and without a first message of the system."""
    for wrap in (lambda said: said, lambda said: [{"type": "text", "text": said}]):
        user = {"role": "user", "content": wrap(text)}
        yield [user]
        yield [{"role": "system", "content": wrap("Describe it.")}, user]
