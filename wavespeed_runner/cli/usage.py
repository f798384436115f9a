"""The text of `--help`, generated from the commands and from the configs that exist, plugins' and the user's too."""

from __future__ import annotations

from ..config.paths import CONF, list_groups
from ..errors import make_printable
from .arguments import PROGRAM
from .commands import COMMANDS

TOP = f"""\
wavespeed_runner: find, prove and share the fastest settings of a diffusion model

  {PROGRAM} [COMMAND] [GROUP=OPTION ...] [KEY=VALUE ...] [FLAGS]

  {PROGRAM} cache=fbcache                                  four images against their reference
  {PROGRAM} cache=fbcache cache.residual_diff_threshold=0.12 prompt='a red circle'
  {PROGRAM} -m cache=fbcache cache.residual_diff_threshold=0.05,0.1,0.2       a sweep
  {PROGRAM} from=IMAGE.png seed=7 cache=none               the settings of an image or a run, changed
  {PROGRAM} model=flux model.init=tiny dry_run=true        what would happen, in a second
  {PROGRAM} cache=fbcache --help                           the keys of an option, what is allowed, and what it is for
"""

FLAGS = """\
flags
  -m, --multirun      run every combination of comma-separated values; hydra/launcher chooses where
  --config-dir DIR    add a folder of your own options
  --cfg job           show the composed config; --info, --hydra-help: more of Hydra
  --version           print the version of this package
"""

BLOCKS = (
    ("model", "graph", "adapters", "prompts"),
    ("sampler", "cache", "cache/signal", "cache/criterion", "cache/predictor"),
    ("quant", "attention", "compile", "accelerate", "memory", "parallel"),
    ("measure", "metrics"),
    ("experiment", "hydra/launcher"),
)
"""Groups that belong together stand together."""
HIDDEN = ("hydra/job_logging", "hydra/hydra_logging")
"""Groups with one option each, which is chosen already."""


def usage(config_dir: str | None) -> str:
    """The help text; the options include those in the folder `config_dir`."""
    from ..config.compose import composer, list_options

    with composer(config_dir):
        names = {group: ", ".join(list_options(group)) for group in list_groups() if group not in HIDDEN}
    others = tuple(name for name in names if not any(name in block for block in BLOCKS))
    blocks = [[name for name in block if name in names] for block in (*BLOCKS, others)]
    lists = ["\n".join(f"  {name:18} {make_printable(names[name])}" for name in block) for block in blocks if block]
    commands = [f"  {name:18} {about}" for name, about in COMMANDS.items()]
    commands += [f"  {PROGRAM} COMMAND --help tells the arguments of each"]
    sections = [
        TOP.strip(),
        "\n".join(["commands", *commands]),
        "groups and their options",
        *lists,
        "\n".join(["values, with their defaults", *_values()]),
        FLAGS,
    ]
    return "\n\n".join(sections)


def _values() -> list[str]:
    """Top-level values of `config.yaml`, with their comments."""
    text = (CONF / "config.yaml").read_text(encoding="utf-8").partition("\nprompt:")[2]
    values = ("prompt:" + text.partition("\nhydra:")[0]).strip()
    return ["  " + line for line in values.splitlines()]
