"""Values of a model folder's configuration that have to go together: sizes of positions, the ends of a text, shifts."""

from __future__ import annotations

import re
from typing import Any

from .scheduler_gate import explain_betas, explain_shift

CLIP_VOCABULARY = 49408  # of one that does not say how many words it has
EVEN_KEYS = re.compile(r"axes_dims?(_rope)?|rope_axes_dims?")
"""Keys of parts of an attention head, one for each axis of the image, and of CogView4's largest size: all are even."""
SHIFT_KEYS = re.compile(r"(base|max)_(shift|image_seq_len)")
"""Keys of the shift that depends on the size of an image."""


def explain_together(node: dict[str, Any]) -> str:
    """Why values do not go together; empty if they do. What computes with them would fail without a word of why."""
    if node.get("use_dynamic_shifting"):
        if key := next((key for key, value in node.items() if value is None and SHIFT_KEYS.fullmatch(key)), ""):
            return f"{key} is null, and use_dynamic_shifting needs a number"
        length = node.get("max_image_seq_len")
        if length is not None and length == node.get("base_image_seq_len"):
            return f"max_image_seq_len = {length} is base_image_seq_len too, and use_dynamic_shifting needs two lengths"
        if reason := explain_shift(node):
            return reason
    if reason := explain_betas(node) or _explain_end(node) or _explain_axes(node):
        return reason
    distance, buckets = node.get("relative_attention_max_distance"), node.get("relative_attention_num_buckets", 32)
    if isinstance(distance, int) and isinstance(buckets, int) and distance <= buckets // 4:
        return f"relative_attention_max_distance = {distance} is too small for {buckets} buckets of distances"
    return ""


def _explain_axes(node: dict[str, Any]) -> str:
    """Why positions along the axes do not fill an attention head; empty if they do, or if either is not said."""
    size, name = node.get("attention_head_dim"), str(node.get("_class_name"))
    for key, axes in node.items() if type(size) is int else ():
        if key == "rope_axes_dim" and not name.startswith("HunyuanVideo"):  # CogView4's is a size in patches
            continue
        is_listed = EVEN_KEYS.fullmatch(key) and isinstance(axes, list) and all(type(axis) is int for axis in axes)
        if is_listed and sum(axes) != size:
            return f"{key} = {str(axes)[:80]}: the sum has to be attention_head_dim, {size}"
    return ""


def _explain_end(node: dict[str, Any]) -> str:
    """Why this is no token that a CLIP could find the end of a text by; empty if it is, or if it is no CLIP."""
    if not str(node.get("model_type")).startswith("clip"):
        return ""
    text = node.get("text_config")
    text = text if isinstance(text, dict) else node
    end, size = text.get("eos_token_id"), text.get("vocab_size", CLIP_VOCABULARY)
    if isinstance(end, list):
        return f"eos_token_id = {str(end)[:80]}: CLIP has one end of a text"
    if end is not None and isinstance(size, int) and not (type(end) is int and 0 <= end < size):
        return f"eos_token_id = {str(end)[:80]} is no token; 0 to {size - 1}, by vocab_size"
    return ""
