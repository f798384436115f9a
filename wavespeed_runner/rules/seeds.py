"""Rules on seeds: what torch takes, and how much of it decides the noise."""

from __future__ import annotations

from ..artifacts import SEEDS
from ..config.schema import Seeds
from .rule import Rule

NOISE_SEEDS = 2**32
"""Seeds below it give different noise; torch's generator of the CPU reads no higher bits."""

SEED_VALUES: tuple[Rule, ...] = (
    Rule(
        id="seed",
        verdict="bad",
        when=lambda c, f: not 0 <= c.seed < SEEDS,
        message="seed={c.seed}: a whole number from 0 to 2**64 - 1 is needed, or -1, which draws one",
        fix="seed=0",
    ),
    Rule(
        id="seed-of-last",
        verdict="bad",
        # Of seeds=per_prompt the number of prompts decides, see `prompt_seeds.py`.
        when=lambda c, f: c.seeds is Seeds.same and 0 <= c.seed < SEEDS < c.seed + c.num_images_per_prompt,
        message="seed={c.seed} num_images_per_prompt={c.num_images_per_prompt}: the images have the seeds seed, seed + "
        "1, ..., and the last of them is above 2**64 - 1",
        fix=lambda c, f: f"seed={SEEDS - c.num_images_per_prompt} is the largest for so many images",
    ),
    Rule(
        id="seed-bits",
        verdict="unverified",
        when=lambda c, f: c.seed + c.num_images_per_prompt > NOISE_SEEDS,
        message=lambda c, f: (
            f"seed={c.seed} num_images_per_prompt={c.num_images_per_prompt}: torch makes noise on the CPU from the "
            f"lowest 32 bits of a seed, so seed={c.seed} is the same as seed={c.seed % NOISE_SEEDS}"
        ),
        fix="seeds below 2**32 are all different",
        source="tests/planning/test_seeds.py",
    ),
)
