"""`export`: writes a measured run as a small experiment file that anyone can run and check."""

from __future__ import annotations

import logging
from argparse import Namespace
from pathlib import Path

from ..errors import ConfigError, make_printable
from ..process.exit_status import DONE
from .arguments import PROGRAM, CommandParser

ABOUT = """
Writes a completed run as experiment/NAME.yaml: what differs from the defaults, with the measured figures as data.
`--config-dir . experiment=NAME` then runs it, and `replay experiment/NAME.yaml` says whether the figures hold.

Its prompts and seeds are in it, so whoever gets the file makes the same images. An image has its settings alone, so
the file of one has no figures.

Not in it: where results are written, the device unless it was asked for, and folders of images, adapters and
calibrations (a config file may only name such files relative to the folder where the command runs). A local model
keeps its path, with a comment. More than 1000 prompts, or 64 Ki characters of them, stay in their file, which is named.

`to=diffusers` writes a Python script of a run instead, of torch, diffusers and torchao alone, that makes the same
images. What plain diffusers cannot express is refused by name.
"""


def build_parser() -> CommandParser:
    """The arguments of `export`."""
    parser = CommandParser("export", "RUN|IMAGE [name=NAME] [out=FILE] [config_dir=DIR] [to=diffusers]", ABOUT)
    parser.add_argument(
        "run", metavar="RUN", type=Path, help="a run's folder, its record.json, SWEEP_FOLDER/N, or an image"
    )
    parser.add_key("name", "NAME", help="of the experiment; default: after the model and the setting")
    parser.add_key("out", "FILE", help="default: experiment/NAME.yaml; - prints it")
    parser.add_key("to", "diffusers", help="a Python script of plain diffusers, NAME.py, instead", read=_read_format)
    parser.add_key(
        "config_dir", "DIR", help="the run's --config-dir; default: that of a job's sweep.json, if it is below here"
    )
    return parser


def _read_format(text: str) -> str:
    if text != "diffusers":
        raise ValueError("only to=diffusers is known, a Python script; without to= an experiment file is written")
    return text


def main(args: Namespace) -> int:
    """Writes the experiment file, or prints it for `out=-`."""
    if args.to is not None:
        return _write_script(args)
    from ..sharing.export import build_experiment, is_image, write_experiment

    name, text = build_experiment(args.run, name=args.name, out=args.out, config_dir=args.config_dir)
    if args.out == "-":
        print(text, end="")
        return DONE
    target = Path(args.out or f"experiment/{name}.yaml")
    write_experiment(target, text)
    print(make_printable(f"export: {target}"))
    if target.parent.name == "experiment" and target.stem == name:
        print("  run it:   " + make_printable(f"{PROGRAM} --config-dir {target.parent.parent} experiment={name}"))
    print("  check it: " + make_printable(f"{PROGRAM} replay {args.run if is_image(args.run) else target}"))
    return DONE


def _write_script(args: Namespace) -> int:
    from ..sharing.to_diffusers import export_script

    if args.config_dir is not None:
        raise ConfigError(f"config_dir={args.config_dir}: not with to=diffusers, which reads the record alone")
    logging.getLogger().addHandler(logging.NullHandler())  # libraries warn of packages that no script needs
    target, text = export_script(args.run, name=args.name, out=args.out)
    print(text if target is None else make_printable(f"export: {target}\n"), end="" if target is None else "\n")
    return DONE
