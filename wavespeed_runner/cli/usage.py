"""What `--help` prints: generated from the configs that are there, plugins' and the user's included."""

from __future__ import annotations

from ..config.schema import CONF, list_groups

TOP = """\
wavespeed_runner: find, prove and share the fastest settings of a diffusion model

  python -m wavespeed_runner [GROUP=OPTION ...] [KEY=VALUE ...] [flags]

  python -m wavespeed_runner cache=fbcache                                  four images against their reference
  python -m wavespeed_runner cache=fbcache cache.residual_diff_threshold=0.12 prompt='a red circle'
  python -m wavespeed_runner -m cache=fbcache cache.residual_diff_threshold=0.05,0.1,0.2       a sweep
  python -m wavespeed_runner model=flux model.init=tiny dry_run=true        what would happen, in a second
"""

FLAGS = """\
flags
  -m, --multirun      run every combination of comma-separated values; hydra/launcher=basic, isolated or slurm
  --config-dir DIR    add a folder of your own options
  --cfg job           show the composed config; --info, --hydra-help: more of Hydra
  --version           of this package

more commands
  python -m wavespeed_runner report DIR                                     table, plots and page of a sweep
  python -m wavespeed_runner export RUN|SWEEP/N [name=NAME]                 a measured point as an experiment file
  python -m wavespeed_runner replay IMAGE|record.json|EXPERIMENT.yaml     run it again, and compare
  python -m wavespeed_runner thresholds cache=fbcache                       what each threshold would compute
  python -m wavespeed_runner calibrate [OVERRIDES]                          numbers that some strategies need
  python -m wavespeed_runner search computed=8 [OVERRIDES]                  which steps to compute
  python -m wavespeed_runner support [MODEL...]                             what fits with what
  python -m wavespeed_runner store [DIR]                                    size of the store, verify, prune
"""


def usage(config_dir: str | None) -> str:
    """The help text."""
    from ..config.compose import composer, list_options

    with composer(config_dir):
        lines = [
            f"  {group:18} {', '.join(list_options(group))}" for group in list_groups() if not group.startswith("hydra")
        ]
    rest = (CONF / "config.yaml").read_text(encoding="utf-8").partition("\nprompt:")[2]
    values = ["  " + line for line in ("prompt:" + rest.partition("\nhydra:")[0]).strip().splitlines()]
    return "\n".join([TOP, "groups and their options", *lines, "", "values, with their defaults", *values, "", FLAGS])
