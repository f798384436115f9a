"""Decides which values a configuration inside a model folder may hold: nothing leads elsewhere, no number is huge.

The loaders of transformers and diffusers follow names of other folders, repositories and files that a configuration
gives, and allocate by its numbers before anything can be compared with the weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ...errors import ConfigError
from ...inputs.limits import MAX_ADDED_TOKENS, MAX_CHAT_TEMPLATE_BYTES
from .code_gate import explain_code
from .config_pairs import EVEN_KEYS, SHIFT_KEYS, explain_together
from .json_values import list_mappings, walk
from .quantization_gate import explain_quantization
from .scheduler_gate import explain_scheduler_value

SOURCE_KEYS = re.compile(r"[a-z]\w*_name_or_path|gguf_file|compression_config", re.ASCII)
"""Keys that lead to other weights. Not `_name_or_path` and `name_or_path`, which say where a model once came from."""
FILE_KEYS = re.compile(r"\w+_files?|transformers_weights", re.ASCII)
"""Keys that name files to open, or lists of them."""
VERSION_KEYS = {"configuration_files": "config.json", "fast_tokenizer_files": "tokenizer.json"}
"""Keys of lists of files, of which transformers reads the newest instead of the usual one, and the usual one."""
ADDED_KEYS = (
    "added_tokens", "added_tokens_decoder", "extra_special_tokens", "additional_special_tokens",
    "model_specific_special_tokens",
)  # fmt: skip
"""Keys of lists or objects of words that are added to a vocabulary."""

MAX_NUMBER = 2**31
MAX_POSITIONS = 2**24
"""Tokens of a text; one of these models reads 10 million. A tokenizer allocates some 60 bytes for each."""
MAX_AUDIO_RATE = 1000
"""Steps of a spectrogram in a second of sound; published ones have 100."""
MAX_LIST = 1000
"""Entries of a list under a key whose numbers are not larger either."""
NO_LENGTH = 10**20
"""transformers takes a `model_max_length` above this one for none, and writes int(1e30) itself."""
BOUNDS: tuple[tuple[re.Pattern[str], int], ...] = (
    (re.compile(r"num_train_timesteps"), 1_000_000),
    (re.compile(r"(\w+_)?max_position_embeddings|(\w+_)?(max_)?length|max_len|stride|Fixed"), MAX_POSITIONS),
    (re.compile(r"(\w*_)?(layers?|blocks?|layers_per_block|block_types|depths?|repeats)"), 1000),
    (re.compile(r"pad_to_multiple_of|max_input_chars_per_word"), MAX_POSITIONS),
    (re.compile(r"(\w+_)?(vocab|vocabulary|codebook)_size|size_of_vocab"), 2_000_000),
    (re.compile(r"(\w+_)?num_(classes|labels|special_tokens)"), 100_000),
    # No weight has the size of these, so only a run would show them.
    (re.compile(r"(\w+_)?paddings?"), 64),
    (re.compile(r"(\w+_)?mel_bins"), 1024),
    (EVEN_KEYS, 1024),  # of an attention head of 128, or 256 patches a side
    (re.compile(r"max_resolution"), 256),  # HiDream fills every image with patches up to this many a side; it has 128
    (re.compile(r"(\w+_)?(sample|sampling)_rate"), 1_000_000),
    (re.compile(r"(\w+_)?dropout(_(rate|prob|p))?"), 1),
    (re.compile(r"(\w+_)?(eps|epsilon)"), 1),
    (re.compile(r"scaling_factor"), 1000),  # of latents; published ones have 0.1 to 1.6
    (re.compile(r"shift_factor"), 100),  # published ones have up to 0.2
    (re.compile(r"upsampling_scaling_factor"), 4),  # of each of a tiny autoencoder's blocks
    (re.compile(r"(up|down)sampl\w+_(factors?|scales?|ratios?|rates?)|(up|down)sample_factors?"), 16),
)
"""Key -> the largest number that it may have, also in a list; the first pattern that fits counts."""

LEAST: tuple[tuple[re.Pattern[str], float], ...] = (
    (re.compile(r"num_layers|(\w+_)?(num_hidden_layers|attention_heads?|head_dims?|num_groups)"), 1),
    (re.compile(r"upsampling_scaling_factor|(\w+_)?kernel(_size)?|num_train_timesteps|sample_size"), 1),
    (
        re.compile(r"(\w+_)?(num_\w+|layers_per_block|channels|paddings?|(hidden|vocab)_size|eps|epsilon)"),
        0,
    ),
    (re.compile(r"(\w+_)?dropout(_(rate|prob|p))?"), 0),
    (re.compile(r"scaling_factor"), 0.001),
    (re.compile(r"shift_factor"), -100),
)
"""Key -> the smallest number that it may have, also in a list; the first pattern that fits counts. Most of it no weight
has the size of, so that only a run would show it; and layers of a text encoder without any would pass for a part beside
it."""
COUNTS = re.compile(r"(\w+_)?(num_\w+|layers_per_block|channels|attention_heads?|head_dims?|hidden_size|vocab_size)")
"""Keys of whole numbers. Python takes `true` for 1."""
DIVISORS = re.compile(r"(\w+_)?scale_factor|image_std|latents_std")
"""Keys of numbers that something is divided by."""

CLASS_KEYS = re.compile(
    r"(\w+_)?(tokenizer|processor|feature_extractor)_class|(\w+_)?(image_processor|video_processor|feature_extractor)_type"
)
"""Keys that name classes of transformers, which builds some of them by that name, whatever they are."""
CLASSES = re.compile(
    r"(?!Auto)[A-Z]\w*((Tokenizer|Processor|Extractor)(Fast|Pil)?|Backend)|", re.ASCII
)  # fmt: skip
REAL_KEYS = re.compile(rf"scaling_factor|shift_factor|shift|(\w+_)?(eps|epsilon)|{SHIFT_KEYS.pattern}")
REAL_LISTS = re.compile(r"latents_(mean|std)|image_(mean|std)")
"""Keys of numbers with a fraction, and of lists of them."""


def refuse_values(where: str, data: Any) -> None:
    """Refuses values of a configuration that lead out of its folder, or that nothing could be built of.

    Args:
        where: `key=value` of the folder and the name of the file, for messages.
        data: what the file holds.

    Raises:
        ConfigError: names the key.
    """
    for node in list_mappings(data):
        for key, value in node.items():
            if (value is not None or key == "scaling_factor") and (reason := _find_reason(key, value)):
                raise ConfigError(f"{where}: {key} {reason}")
        if isinstance(rate := node.get("sample_rate"), int | float):
            hop = node.get("mel_hop_length", rate)
            if not isinstance(hop, int | float) or not rate / MAX_AUDIO_RATE <= hop:
                raise ConfigError(f"{where}: mel_hop_length = {str(hop)[:80]} is too small for a sample_rate of {rate}")
        if reason := explain_together(node):
            raise ConfigError(f"{where}: {reason}")


def _find_reason(key: str, value: Any) -> str:
    """Why a key may not have this value; empty if it may."""
    if key == "chat_template" and any(len(str(text)) > MAX_CHAT_TEMPLATE_BYTES for text in _list_leaves(value)):
        return f"has more than {MAX_CHAT_TEMPLATE_BYTES} characters; that is the most"
    if key in VERSION_KEYS and any(name != VERSION_KEYS[key] for name in _list_leaves(value)):
        return f"= {str(value)[:80]!r} has another file stand in for {VERSION_KEYS[key]}; remove {key}"
    if SOURCE_KEYS.fullmatch(key) and value not in ("", {}):
        return f"= {str(value)[:80]!r} leads to another model, which nobody has checked; give a folder that has its own"
    if FILE_KEYS.fullmatch(key) and key != "special_tokens_map_file":
        for name in _list_leaves(value):
            if isinstance(name, str) and not is_inside(name):
                return f"= {name[:80]!r} leads out of the folder; remove {key}"
    if key == "transformers_weights" and ".safetensors" not in str(value):
        return f"= {str(value)[:80]!r} is no safetensors file; remove {key}"
    if key == "quantization_config":
        return explain_quantization(value)
    return (
        explain_code(key, value)
        or _explain_class(key, value)
        or explain_added(key, value)
        or _explain_kind(key, value)
        or explain_scheduler_value(key, value)
        or _explain_number(key, value)
    )


def _explain_class(key: str, value: Any) -> str:
    """Why a model or a part of it may not be built by this name."""
    if key == "backbone" and "/" in str(value):
        return f"= {str(value)[:80]!r} leads to another model; give a backbone_config instead"
    if key == "model_type" and str(value).startswith("timm"):
        return f"= {str(value)[:80]!r} builds a model of another library, which reads files that nobody has checked"
    if CLASS_KEYS.fullmatch(key) and not all(CLASSES.fullmatch(str(name)) for name in _list_leaves(value) if name):
        return f"= {str(value)[:80]!r} is no class of a tokenizer or processor"
    return ""


def explain_added(key: str, value: Any) -> str:
    """Why these are too many words to add to a vocabulary; empty if they are not."""
    if key in ADDED_KEYS and isinstance(value, list | dict) and len(value) > MAX_ADDED_TOKENS:
        return f"has {len(value)} entries; at most {MAX_ADDED_TOKENS} are read"
    return ""


def is_inside(name: str) -> bool:
    """True for the name of a file that lies in the folder itself, and is not hidden: those count nowhere."""
    plain = name.removeprefix("./")
    return bool(plain) and not plain.startswith((".", "~")) and not re.search(r"[/\\:\0]", plain)


def _explain_kind(key: str, value: Any) -> str:
    """Why a value is of no use to the models; what they say themselves is an AssertionError without a word."""
    numbers = list(_list_leaves(value))
    if COUNTS.fullmatch(key) and any(type(number) in (bool, str) for number in numbers):
        return f"= {str(value)[:80]} is no number"
    is_even = bool(numbers) and all(type(number) is int and number > 0 and number % 2 == 0 for number in numbers)
    if EVEN_KEYS.fullmatch(key) and not is_even:
        return f"= {str(value)[:80]}: rotary positions need even whole numbers above 0"
    if REAL_KEYS.fullmatch(key) and type(value) not in (int, float):
        return f"= {str(value)[:80]!r} is no number"
    if REAL_LISTS.fullmatch(key) and not all(type(number) in (int, float) for number in numbers):
        return f"= {str(value)[:80]!r}: numbers are needed"
    if key == "sp_model_kwargs" and (not isinstance(value, dict) or any(value.values())):
        return f"= {str(value)[:80]}: with options of its own SentencePiece draws among pieces; remove {key}"
    if key in ("return_dict", "use_return_dict") and value is not True:
        return f"= {str(value)[:80]}: pipelines read the outputs of models by their names; remove {key}"
    is_length = (type(value) is int and value >= 1) or (type(value) is float and value >= NO_LENGTH)
    if key == "model_max_length" and not is_length:
        return f"= {str(value)[:80]} is no length; it has to be a whole number, 1 or more"
    return ""


def _explain_number(key: str, value: Any) -> str:
    most = next((bound for pattern, bound in BOUNDS if pattern.fullmatch(key)), MAX_NUMBER)
    if isinstance(value, list) and most <= MAX_LIST < len(value):
        return f"has {len(value)} entries; at most {MAX_LIST} are built"
    if isinstance(value, dict):  # looked at by itself
        return ""
    for number in _list_leaves(value):
        # Without a bound of its own a float counts nothing: infinity and the smallest logit are usual.
        if number != number:  # NaN, which Python reads in JSON
            return "= NaN is no number"
        if type(number) in (int, float) and (reason := _explain_small(key, number)):
            return reason
        counts = type(number) is int or (type(number) is float and most < MAX_NUMBER)
        if counts and number > most and not (key == "model_max_length" and number >= NO_LENGTH):
            amount = str(number) if number < 10**40 else "a number of more than 40 digits"
            return f"= {amount} is too large; at most {most}"
    return ""


def _explain_small(key: str, number: float) -> str:
    least = next((bound for pattern, bound in LEAST if pattern.fullmatch(key)), None)
    if least is not None and number < least:
        return f"= {number} is too small; at least {least}"
    return "= 0, and something is divided by it" if number == 0 and DIVISORS.fullmatch(key) else ""


def _list_leaves(value: Any) -> Iterator[Any]:
    """The value, or those in a list or an object of them, at any depth."""
    return (node for node in walk(value) if not isinstance(node, list | dict))
