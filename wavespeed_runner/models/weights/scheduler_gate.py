"""Bounds the numbers of a scheduler's configuration: outside of them it divides by zero, overflows, or shows nothing.

No weights have the size of these numbers and nothing fails while a scheduler is built, so only pictures would show it.
"""

from __future__ import annotations

import re
from typing import Any

from .json_values import walk

BETWEEN: tuple[tuple[re.Pattern[str], float, float], ...] = (
    (re.compile(r"shift|flow_shift|snr_shift_scale"), 0.01, 1000),  # published ones have 1 to 17
    (re.compile(r"shift_terminal"), 0, 0.9),  # divides by 1 - it; published ones have 0.02 and 0.1
    (re.compile(r"(base|max)_shift"), -10, 10),  # in an exponent; published ones have 0.5 to 2.05
    (re.compile(r"beta_start|beta_end|trained_betas"), 1e-8, 0.999),
    (re.compile(r"dynamic_thresholding_ratio"), 0, 1),
    (re.compile(r"sample_max_value|clip_sample_range|timestep_scaling"), 1e-3, 1e6),
    (re.compile(r"sigma_min|sigma_max|sigma_data|rho"), 1e-6, 1e6),
    (re.compile(r"steps_offset"), 0, 1000),
    (re.compile(r"original_inference_steps"), 1, 1000),
)
"""Key -> the smallest and the largest number that it may have, also in a list."""
LENGTHS = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}
"""What a shift that goes by the size of an image is computed from, with the numbers of diffusers' pipelines."""
MOST_SHIFT_A_TOKEN = 0.001
"""Published models have up to 0.0004. With this one, the exponent of an image of 4096 pixels a side is 66;
float32 overflows at 89."""


def explain_scheduler_number(key: str, value: Any) -> str:
    """Why a scheduler may not have this value under a key; empty if it may, or if the key is none of a scheduler."""
    for pattern, least, most in BETWEEN:
        if not pattern.fullmatch(key):
            continue
        for number in walk(value):
            if isinstance(number, list) or number is None:
                continue
            if type(number) not in (int, float):
                return f"= {str(number)[:80]!r} is no number"
            if number != number:
                return "= NaN is no number"
            if not least <= number <= most:
                amount = str(number) if abs(number) < 10**40 else "a number of more than 40 digits"
                return f"= {amount} is out of bounds; {least} to {most}"
    return ""


def explain_shift(node: dict[str, Any]) -> str:
    """Why a shift that goes by the size of an image may not grow as fast as these numbers say; empty if it may."""
    least, most, first, last = (node.get(key, usual) for key, usual in LENGTHS.items())
    if not all(type(number) in (int, float) for number in (least, most, first, last)) or first == last:
        return ""  # said elsewhere
    if abs(most - least) > MOST_SHIFT_A_TOKEN * abs(last - first):
        return (
            f"base_shift = {least} and max_shift = {most} are too far apart for {first} and {last} tokens of an image"
        )
    return ""
