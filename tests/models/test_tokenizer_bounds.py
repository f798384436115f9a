"""What a stranger's tokenizer does to a text, and its chat template: as without bounds, but never without end."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights.byte_tokenizer import build_clip_tokenizer
from wavespeed_runner.models.weights.tokenizer_bounds import bound_tokenizers
from wavespeed_runner.models.weights.tokenizer_reading import refuse_unread_text

USUAL = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHAT = [{"role": "user", "content": "a café 🐈"}]


def make(template: Any, *, bounded: bool = True) -> Any:
    tokenizer = build_clip_tokenizer()
    tokenizer.chat_template = template
    if bounded:
        bound_tokenizers("model.repo=x", {"tokenizer": tokenizer, "other": SimpleNamespace(), "none": None})
    return tokenizer


@pytest.mark.parametrize("chat", [CHAT, [CHAT, [{"role": "user", "content": "x"}]]])
@pytest.mark.parametrize(
    "options",
    [
        {"tokenize": False}, {"add_generation_prompt": True, "return_dict": False},
        {"return_dict": True, "return_tensors": "np", "padding": "max_length", "max_length": 70, "truncation": True},
    ],
)  # fmt: skip
def test_the_result_is_as_without_bounds(chat: Any, options: dict[str, Any]) -> None:
    ours, theirs = (make(USUAL, bounded=bounded).apply_chat_template(chat, **options) for bounded in (True, False))
    assert str(ours) == str(theirs) and len(str(ours)) > 20


HOSTILE = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}"
    "{% endfor %}",
    "grows": "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "long": "{{ 'a' * (messages | length) * 10 ** 10 }}",
    "while it is compiled": "{{ 'a' * 10 ** 10 }}",
    "number while it is compiled": "{{ 9 ** (9 ** 9) }}",
    "long enough": "{{ 'a' * 300000 }}",
    "raises": "{{ raise_exception('no\nsystem message') }}",
    "is none": "{% for %}",
    "deep": "{{ " + "(" * 9000 + ")" * 9000 + " }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_without_end_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wavespeed_runner.models.weights.tokenizer_bounds.SECONDS", 2.0)
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"^model\.repo=x: component 'tokenizer': its chat template .*cannot be rend"):
        make(HOSTILE[name]).apply_chat_template(CHAT, tokenize=False)
    assert time.monotonic() - start < 20


def test_what_was_rendered_in_the_child_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two renderings of a random template differ; no second one runs here."""
    monkeypatch.setattr("wavespeed_runner.models.weights.tokenizer_bounds.render_same", render_jinja_template)
    tokenizer = make("{{ range(90000) | random }}")
    assert len({tokenizer.apply_chat_template(CHAT, tokenize=False) for _ in range(4)}) > 1
    assert tokenizer.decode(tokenizer.apply_chat_template(CHAT)["input_ids"]).isdigit()


def test_the_tokenizer_of_a_processor_is_bounded_too_and_none_twice() -> None:
    tokenizer = make("{{ 'a' * 10 ** 10 }}", bounded=False)
    processor = SimpleNamespace(tokenizer=tokenizer)
    bound_tokenizers("model.repo=x", {"processor": processor})
    first = tokenizer.apply_chat_template
    bound_tokenizers("model.repo=x", {"processor": processor, "tokenizer": tokenizer})
    assert tokenizer.apply_chat_template is first
    with pytest.raises(ConfigError, match="component 'processor'"):
        tokenizer.apply_chat_template(CHAT)
    assert "CLIP" in repr(tokenizer) or "Tokenizer" in repr(tokenizer)


@pytest.mark.parametrize("texts", ["a café", ["a", "bb"]])
def test_texts_are_read_as_without_bounds(texts: Any) -> None:
    options = {"padding": "max_length", "max_length": 12, "truncation": True, "return_tensors": "pt"}
    ours, theirs = (make(USUAL, bounded=bounded)(texts, **options) for bounded in (True, False))
    assert str(ours) == str(theirs)


def break_pattern(tokenizer: Any) -> None:
    """Lets the tokenizer split by a pattern that goes back and forth."""
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    split = {"type": "Split", "pattern": {"Regex": "^(a|aa)+$"}, "behavior": "Isolated", "invert": False}
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, data["pre_tokenizer"]]}
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(data))


def test_a_text_that_a_tokenizer_cannot_read_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("wavespeed_runner.models.weights.tokenizer_bounds.SECONDS", 1.0)
    tokenizer = make(USUAL)
    break_pattern(tokenizer)
    assert len(tokenizer("a cat")["input_ids"]) == 7
    with pytest.raises(ConfigError, match=r"^model\.repo=x: component 'tokenizer' cannot read the prompt: "):
        tokenizer("a" * 60 + "b")
    assert capfd.readouterr().err == ""


def test_a_tokenizer_without_a_token_to_fill_up_with_is_refused() -> None:
    tokenizer = make(USUAL)
    tokenizer.pad_token = None
    assert len(tokenizer("a cat")["input_ids"]) == 7
    with pytest.raises(
        ConfigError, match=r"^model\.repo=x: component 'tokenizer': Asking to pad .*give it a pad_token"
    ):
        tokenizer("a cat", padding="max_length", max_length=12)


def test_clip_has_a_length() -> None:
    tokenizer = build_clip_tokenizer()
    tokenizer.model_max_length = int(1e30)
    refuse_unread_text(tokenizer, "a cat")
    tokenizer.__class__ = type("CLIPTokenizer", (type(tokenizer),), {})
    with pytest.raises(ValueError, match="it has no model_max_length, to which CLIP fills up each text"):
        refuse_unread_text(tokenizer, "a cat")
