"""The commands by name, and what each is for in one line. Which module does it follows from the name."""

from __future__ import annotations

RUN = "run"
COMMANDS = {
    RUN: "make images or videos as the overrides say; the word may be left out",
    "report": "tables, plots and a page from the records below a folder",
    "compare": "two or more runs, sweeps or machines side by side, with verdicts on each figure",
    "export": "write a measured run as an experiment file that anyone can run",
    "replay": "run an image, record or experiment again, and compare",
    "gallery": "a folder of shared experiments as one page: claims, hardware, replays",
    "calibrate": "measure a model once, for the cache strategies that need it",
    "fit": "fit a sampler of a few evaluations to the full run, for sampler=fitted",
    "search": "find the best steps to compute for cache=planned",
    "tune": "find the fastest setting under a quality that you accept",
    "thresholds": "what each threshold of a cache strategy would compute; nothing is run",
    "estimate": "how much memory a run would need; nothing is loaded",
    "support": "which models, graphs, samplers and caches fit together",
    "store": "size of the store of finished stages; verify it, free space",
}
"""In the order in which `--help` lists them."""
