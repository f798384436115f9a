"""Composes and converts the configs of a sweep quickly; `WAVESPEED_RUNNER_FAST_CONFIG=0` turns it off.

The jobs of a sweep mostly differ in plain values. Hydra would read some thirty files for each job, a tenth of a second,
and OmegaConf would build the whole schema for each, another 30 ms. `compose` and `convert` do that once for all jobs
that differ in values alone. Whatever is not a plain value goes the long way through Hydra and OmegaConf, and so does
whatever fails: their error message is the one that counts.

Both ways give the same config and the same error (`tests/config/test_fast.py`). Turn it off to find out whether it
causes a problem.
"""

from __future__ import annotations

import os

SWITCH = "WAVESPEED_RUNNER_FAST_CONFIG"
"""Environment variable; `0` turns this room off, anything else leaves it on."""


def is_enabled() -> bool:
    """True unless the environment says `WAVESPEED_RUNNER_FAST_CONFIG=0`."""
    return os.environ.get(SWITCH, "1") != "0"
