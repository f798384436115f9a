"""Bounds the values of a scheduler's configuration: outside of them it divides by zero, overflows, or shows nothing.

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
    (re.compile(r"solver_order|predictor_order"), 1, 4),  # of which schedulers compute up to 3
    (re.compile(r"corrector_order"), 0, 4),
    # All noise of a signal-to-noise ratio below it is taken for it; published ones have -5.1, or infinity for none.
    (re.compile(r"lambda_min_clipped"), float("-inf"), -1),
    (re.compile(r"s_noise"), 0.1, 2),
    (re.compile(r"eta"), 0, 1),
)
"""Key -> the smallest and the largest number that it may have, also in a list."""
WORDS: dict[str, tuple[str, ...]] = {
    "prediction_type": ("epsilon", "sample", "original_sample", "v_prediction", "flow_prediction", "trigflow"),
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range"),
    "timestep_spacing": ("linspace", "leading", "trailing"),
    "algorithm_type": (
        "dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++", "deis", "data_prediction", "noise_prediction",
    ),
    "solver_type": ("midpoint", "heun", "logrho", "bh1", "bh2"),
    "final_sigmas_type": ("zero", "sigma_min"),
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "exp", "laplace"),
    "sigma_schedule": ("karras", "exponential"),
    "timestep_type": ("discrete", "continuous"),
    "time_shift_type": ("exponential", "linear"),
    "interpolation_type": ("linear", "log_linear"),
}  # fmt: skip
"""Key -> the words that any scheduler of diffusers knows. Most of them take another for one of these, or fail late."""
SWITCHES = re.compile(
    r"use_(beta|exponential|flow|karras)_sigmas|use_lu_lambdas|use_dynamic_shifting|clip_sample|thresholding|"
    r"euler_at_final|lower_order_final|invert_sigmas|predict_x0|rescale_betas_zero_snr|set_alpha_to_one|"
    r"skip_prk_steps|stochastic_sampling"
)
"""Keys of yes and no. Python takes any text for yes."""
OTHERS = re.compile(
    r"(Amused|BlockRefinement|DDPMWuerstchen|DiscreteDDIM|EntropyBound|Helios(DMD)?|KarrasVe|Piflow|RFD4Proteina|RePaint|"
    r"SCM|ScoreSdeV[ep]|UnCLIP|VQDiffusion)Scheduler"
)
"""Schedulers that only pipelines of their own can call, none of which a family here runs."""
OTHER_KINDS = {
    "diffusion": re.compile(r"(FlowMa(p|tch)\w+|LTXEulerAncestralRF|MiniMaxH3|CogVideoXDPM)Scheduler"),
    "flow": re.compile(r"CogVideoXDPMScheduler"),
}
"""`Family.schedule` -> schedulers that pipelines of this kind cannot call."""
TRAIN_STEPS = 1000
"""Of schedulers that do not say how many."""
LENGTHS = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}
"""What a shift that goes by the size of an image is computed from, with the numbers of diffusers' pipelines."""
MOST_SHIFT_A_TOKEN = 0.001
"""Published models have up to 0.0004. With this one, the exponent of an image of 4096 pixels a side is 66;
float32 overflows at 89."""


def explain_scheduler_value(key: str, value: Any) -> str:
    """Why a scheduler may not have this value under a key; empty if it may, or if the key is none of a scheduler."""
    if (words := WORDS.get(key)) and value not in words:
        return f"= {str(value)[:80]!r} is unknown; allowed: {', '.join(words)}"
    if SWITCHES.fullmatch(key) and type(value) is not bool:
        return f"= {str(value)[:80]!r} is neither true nor false"
    return _explain_number(key, value)


def _explain_number(key: str, value: Any) -> str:
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


def explain_class(name: str, schedule: str, config: dict[str, Any], steps: int) -> str:
    """Why a pipeline cannot run with its folder's scheduler; empty if it can.

    Args:
        name: of the scheduler's class.
        schedule: of the model's family.
        config: of the scheduler.
        steps: of the run.
    """
    other = OTHER_KINDS.get(schedule)
    if OTHERS.fullmatch(name) or (other and other.fullmatch(name)):
        return f"its scheduler is a {name}, which this pipeline cannot call; choose one with sampler=NAME"
    trained = config.get("num_train_timesteps") or TRAIN_STEPS
    if isinstance(trained, int) and steps > trained:
        return (
            f"its scheduler has num_train_timesteps = {trained}, fewer than steps={steps}; give steps={trained} or less"
        )
    return ""


def explain_betas(node: dict[str, Any]) -> str:
    """Why these are no noise levels of the training steps; empty if they are."""
    betas, steps = node.get("trained_betas"), node.get("num_train_timesteps") or TRAIN_STEPS
    if betas is None:
        return ""
    if not isinstance(betas, list) or any(isinstance(beta, list) for beta in betas) or len(betas) != steps:
        count = f"{len(betas)} entries" if isinstance(betas, list) else "no list"
        return f"trained_betas has {count}, and num_train_timesteps = {str(steps)[:40]} wants a number for each"
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
