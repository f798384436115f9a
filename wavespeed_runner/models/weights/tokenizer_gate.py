"""Decides what a tokenizer.json may do to a text: not make it thousands of times longer, nor hold endless lists.

A tokenizer runs its normalizers, splits and templates one after the other, and each may make of every character, or of
the whole text, many: ten of them in a row make billions. https://huggingface.co/docs/tokenizers/components
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ...errors import ConfigError
from ...inputs import limits
from .config_gate import explain_added, refuse_values
from .json_values import walk

PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
"""Parts of a tokenizer.json that a text passes; the other one is the vocabulary."""
GROWTH = {
    "NFC": 3, "NFD": 4, "NFKC": 18, "NFKD": 18, "Lowercase": 2, "ByteLevel": 4, "Metaspace": 2, "BertNormalizer": 4,
    "StripAccents": 1, "Strip": 1, "Nmt": 1, "Sequence": 1, "Split": 1, "Whitespace": 1, "WhitespaceSplit": 1,
    "Punctuation": 1, "Digits": 1, "BertPreTokenizer": 1, "CharDelimiterSplit": 1, "UnicodeScripts": 1,
    "FixedLength": 1, "BertProcessing": 1, "RobertaProcessing": 1, "ByteFallback": 1, "Fuse": 1, "WordPiece": 1,
    "BPEDecoder": 1, "CTC": 1,
}  # fmt: skip
"""Type of a part -> how many times longer it can make a text, https://www.unicode.org/faq/normalization.html."""
UNKNOWN_GROWTH = 4
CHANCE_KEYS = ("dropout", "enable_sampling", "nbest_size", "alpha")


def is_tokenizer(data: Any) -> bool:
    """True for what the tokenizers library could read, whatever the file's name."""
    return isinstance(data, dict) and "model" in data and any(part in data for part in (*PARTS, "added_tokens"))


def refuse_tokenizer(place: str, data: Any) -> None:
    """Refuses a tokenizer that makes texts too long or has too many parts; its vocabulary is not looked at.

    Args:
        place: `key=value` of the folder and the name of the file, for messages.
        data: what the file holds.

    Raises:
        ConfigError: names the key.
    """
    if not isinstance(data, dict):
        raise ConfigError(f"{place} is not an object, so no tokenizer")
    refuse_values(place, {key: data.get(key) for key in ("truncation", "padding")})
    refuse_added_tokens(place, data)
    if isinstance(model := data.get("model"), dict):
        refuse_values(place, {"max_input_chars_per_word": model.get("max_input_chars_per_word")})
        _refuse_chance(place, model)
    growth = 1.0
    for part in PARTS:
        growth = 1.0 if part == "decoder" else growth  # the others are passed one after the other
        for node in _list_parts(place, part, data.get(part)):
            growth *= max(1.0, _measure_growth(f"{place}: {part}", node))
            if growth > limits.MAX_TEXT_GROWTH:
                raise ConfigError(
                    f"{place}: {part} makes a text more than {limits.MAX_TEXT_GROWTH} times longer, with what stands "
                    "before it; no published tokenizer does"
                )


def _refuse_chance(place: str, model: dict[str, Any]) -> None:
    """Refuses what is for training alone: BPE that leaves out some of its merges, Unigram that draws among pieces."""
    for key in CHANCE_KEYS:
        if model.get(key):
            raise ConfigError(
                f"{place}: model.{key} = {str(model[key])[:80]} reads the same prompt otherwise each time; remove {key}"
            )


def refuse_added_tokens(place: str, data: dict[str, Any]) -> None:
    """Raises `ConfigError` for more words than are added to any vocabulary, or numbers beyond those of any."""
    for key, value in data.items():
        if reason := explain_added(key, value):
            raise ConfigError(f"{place}: {key} {reason}")
    words = data.get("added_tokens")
    entries = words.items() if isinstance(words, dict) else []
    listed = [(word.get("content"), word.get("id")) for word in words or () if isinstance(word, dict)]
    for word, number in (*entries, *listed):
        _refuse_token(f"{place}: added_tokens", word, number)


def _refuse_token(where: str, word: Any, number: Any) -> None:
    """Raises `ConfigError` for the number of a token that no table of an encoder has."""
    if number is not None and (type(number) is not int or not 0 <= number < limits.MAX_TOKENS):
        raise ConfigError(
            f"{where}: {str(word)[:40]!r} has the number {str(number)[:40]}; 0 to {limits.MAX_TOKENS - 1} are possible"
        )


def _list_parts(place: str, key: str, data: Any) -> Iterator[dict[str, Any]]:
    """Objects with a type inside a part, in no order: those of a sequence, and of sequences in it."""
    for count, node in enumerate(walk(data), start=1):
        if count > limits.MAX_TOKENIZER_PARTS:
            raise ConfigError(f"{place}: {key} has more than {limits.MAX_TOKENIZER_PARTS} values; that is the most")
        if isinstance(node, dict) and isinstance(node.get("type"), str):
            yield node


def _measure_growth(where: str, node: dict[str, Any]) -> float:
    """How many times longer one part can make a text."""
    kind = node["type"]
    if kind == "Replace":
        content, pattern = str(node.get("content", "")), node.get("pattern")
        found = pattern.get("String") if isinstance(pattern, dict) else None
        # A regular expression may find nothing at all between two characters.
        return len(content) / len(found) if isinstance(found, str) and found else len(content) + 1.0
    if kind == "Prepend":
        return 1.0 + len(str(node.get("prepend", "")))
    if kind == "Precompiled":
        return _measure_table(where, node.get("precompiled_charsmap"))
    if kind == "TemplateProcessing":
        return _measure_template(where, node)
    return GROWTH.get(kind, UNKNOWN_GROWTH)


def _measure_table(where: str, table: Any) -> float:
    """The most characters that one stands for in SentencePiece's table: a trie, then texts with a zero after each."""
    try:
        raw = base64.b64decode(table, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ConfigError(f"{where}: precompiled_charsmap is no base64 text") from None
    longest = max(map(len, raw[4 + int.from_bytes(raw[:4], "little") :].split(b"\0")))
    if longest > limits.MAX_EXPANSION_BYTES:
        raise ConfigError(
            f"{where}: precompiled_charsmap makes {longest} bytes of a character; at most {limits.MAX_EXPANSION_BYTES}"
        )
    return max(1.0, longest / 2)


def _measure_template(where: str, node: dict[str, Any]) -> float:
    """How often the same text stands in a template; refuses one with too many tokens."""
    pieces = {key: value for key in ("single", "pair") if isinstance(value := node.get(key), list)}
    special = node.get("special_tokens")
    tokens = [token for token in special.values() if isinstance(token, dict)] if isinstance(special, dict) else []
    for token in tokens:
        for number in ids if isinstance(ids := token.get("ids"), list) else ():
            _refuse_token(where, token.get("id"), number)
    longest = max((len(ids) for token in tokens if isinstance(ids := token.get("ids"), list)), default=1)
    most = limits.MAX_TEMPLATE_TOKENS
    for key, value in pieces.items():
        if len(value) * longest > most:
            raise ConfigError(f"{where}: {key} puts up to {len(value) * longest} tokens around a text; at most {most}")
    names = [
        [str(piece["Sequence"]) for piece in value if isinstance(piece, dict) and "Sequence" in piece]
        for value in pieces.values()
    ]
    return float(max((count for each in names for count in Counter(each).values()), default=1))
