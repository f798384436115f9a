"""A stranger's chat template: what it makes is a function of the chat alone, and has the prompt in it."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights.byte_tokenizer import build_clip_tokenizer
from wavespeed_runner.models.weights.chat_templates import refuse_template
from wavespeed_runner.models.weights.tokenizer_bounds import bound_tokenizers
from wavespeed_runner.models.weights.tokenizer_gate import refuse_tokenizer
from wavespeed_runner.models.weights.tokenizer_reading import refuse_unread_text
from wavespeed_runner.models.weights.trial import Candidate, refuse_unbuildable

SAYS = "{% for message in messages %}{{ message.content }}{% endfor %}"
CHAT = [{"role": "user", "content": " a café 🐈\n"}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "a cat"}]}]
DROPPING = {
    "another text": "EVIL", "empty": "", "role": "{{ messages[0].role }}",
    "length": "{{ messages[0].content | length }}",
    "system": "{% if messages[0].role == 'system' %}" + SAYS + "{% endif %}",
    "start": "{{ messages[0].content[:3] }}", "type": "{% for m in messages %}{{ m.content is string }}{% endfor %}",
}  # fmt: skip
CHANCE = {
    "random": "{{ [1, 2] | random }}", "lipsum": "{{ lipsum(n=1) }}", "if": "{% if [1, 0] | random %}x{% endif %}",
    "method": "{{ messages.index }}", "generator": "{{ [1] | map('int') }}", "function": "{{ raise_exception }}",
    "sliced": "{{ (messages[0].items | string)[-8:] }}",
}  # fmt: skip
CLOCK = "{{ strftime_now('%Y-%m-%d') }}"


@lru_cache
def build(*, bounded: bool) -> Any:
    tokenizer = build_clip_tokenizer()
    if bounded:
        bound_tokenizers("model.repo=x", {"tokenizer": tokenizer})
    return tokenizer


def make(template: Any, *, bounded: bool = False) -> Any:
    tokenizer = build(bounded=bounded)
    tokenizer.chat_template = template
    return tokenizer


def apply(template: Any, chat: Any = CHAT) -> Any:
    return make(template, bounded=True).apply_chat_template(chat, tokenize=False)


@pytest.mark.parametrize("name", DROPPING)
def test_a_template_without_the_prompt_is_refused_where_it_is_used(name: str) -> None:
    with pytest.raises(ConfigError, match=r"component 'tokenizer': its chat template .*: it leaves the prompt out"):
        apply(DROPPING[name])


@pytest.mark.parametrize("name", [*CHANCE, "clock"])
def test_a_template_that_makes_another_text_each_time_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"it draws random numbers|it makes another text of the same messages"):
        apply((CHANCE | {"clock": CLOCK})[name] + SAYS)


@pytest.mark.parametrize("name", [*(name for name in DROPPING if name != "system"), *CHANCE])
def test_both_are_found_before_anything_runs(name: str) -> None:
    template = DROPPING[name] if name in DROPPING else CHANCE[name] + SAYS
    with pytest.raises(ValueError, match=r"^its chat template: it "):
        refuse_template(make(template), "a cat\n\nin a hat")


@pytest.mark.parametrize(
    "template",
    [
        None, SAYS, SAYS + CLOCK, "{{ messages[-1].content | trim }}", "{% for %}", "{{ raise_exception('no') }}",
        "{% for part in messages[-1].content %}{{ part.text }}{% endfor %}",
        "{% if messages[0].role != 'system' %}{{ raise_exception('system') }}{% endif %}" + SAYS, {"tools": "EVIL"},
    ],
)  # fmt: skip
def test_templates_that_a_pipeline_may_use_or_not_pass(template: Any) -> None:
    refuse_template(make(template), "a cat")


def test_a_date_that_is_asked_for_and_not_written_does_no_harm() -> None:
    template = "{% set day = strftime_now('%d') %}" + SAYS
    assert apply(template) == CHAT[0]["content"]
    assert apply("{{ messages[0].content[0].text }}", PARTS) == "a cat"


def test_the_plan_tries_the_template_of_a_folder(tmp_path: Path) -> None:
    build_clip_tokenizer().save_pretrained(tmp_path)
    candidate = Candidate(name="tokenizer", library="transformers", class_name="CLIPTokenizer", folder=tmp_path)
    refuse_unbuildable("model.repo=x", [candidate])
    (tmp_path / "chat_template.jinja").write_text("EVIL")
    with pytest.raises(ConfigError, match=r"component 'tokenizer' .*its chat template: it leaves the prompt out"):
        refuse_unbuildable("model.repo=x", [candidate])


def test_a_tokenizer_that_reads_a_text_otherwise_each_time_is_refused() -> None:
    tokenizer = build_clip_tokenizer()
    tokenizer.backend_tokenizer.model.dropout = 0.5
    if len({str(tokenizer("aaaa bbbb cccc dddd" * 9).input_ids) for _ in range(9)}) > 1:
        with pytest.raises(ValueError, match="other tokens of the same text each time"):
            refuse_unread_text(tokenizer, "aaaa bbbb cccc dddd" * 9)
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    assert data["model"]["dropout"] == 0.5
    with pytest.raises(ConfigError, match=r"^x: model\.dropout = 0\.5 reads the same prompt otherwise"):
        refuse_tokenizer("x", data)
    for value in (None, 0, 0.0):
        refuse_tokenizer("x", data | {"model": data["model"] | {"dropout": value}})
    with pytest.raises(ConfigError, match=r"^x: model\.nbest_size = -1"):
        refuse_tokenizer("x", {"model": {"type": "Unigram", "vocab": [], "nbest_size": -1}})
