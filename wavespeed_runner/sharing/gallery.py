"""A folder of shared experiments as one page: who claims what on which hardware, and whether it was replayed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..config.claim import ClaimConfig, ClaimedFigure
from ..config.error_messages import EXPLAINED, explain
from ..config.lossy import lossy_names
from ..config.resolve import resolve_config
from ..config.schema import to_data
from ..errors import ConfigError, make_printable
from ..inputs.files import InputError
from ..records.listing import list_jobs
from ..records.names import model_name
from ..records.record import Record
from ..records.reference import describe_sampler, name_steps
from ..report.page.images import Album, album, within
from .claim_form import refuse_malformed
from .source import read_source
from .verdict import combine_verdicts, verify_claim

if TYPE_CHECKING:
    from jinja2 import Template

MOST_FILES = 300
"""Experiments that one page shows."""
REPLAY = "-replay"
"""How the folder of a replay's run ends; a run of the experiment with changes is none."""
PICTURES = (".png", ".jpg", ".webp")
"""Endings of an image beside an experiment, with its name."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One experiment file."""

    file: Path
    problem: str
    """Why it is no claim; empty where it is one."""
    model: str = ""
    setting: str = ""
    claim: ClaimConfig | None = None
    images: str = ""
    replays: tuple[str, ...] = ()
    """`reproduced on AMD EPYC`, of each replay that left a record here."""

    @property
    def title(self) -> str:
        """The name of the file, for people; one that makes no claim is found by its path."""
        return make_printable(str(self.file) if self.problem else self.file.stem)


def collect_gallery(folder: Path, outputs: Path) -> list[Entry]:
    """Reads the experiments in a folder and below it, which are strangers' files, and looks for replays of them.

    Args:
        folder: with `.yaml` files that `export` or `tune` wrote.
        outputs: where runs were written, whose replays are looked for.

    Raises:
        ConfigError: no such folder, no experiment in it, or too many.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give one with experiment files that export or tune wrote")
    found = list(islice((path for path in folder.rglob("*.yaml")), MOST_FILES + 1))
    if not 0 < len(found) <= MOST_FILES:
        raise ConfigError(f"{folder}: {len(found)} .yaml files in it; 1 to {MOST_FILES} are shown")
    replays = _find_replays(outputs)
    return sorted((_read(folder, path, replays) for path in found), key=_order)


def _order(entry: Entry) -> tuple[bool, str, float, str]:
    speedup = entry.claim.speedup.value if entry.claim and entry.claim.speedup else 0.0
    return bool(entry.problem), entry.model, -speedup, entry.title


def _read(folder: Path, path: Path, replays: Sequence[Record]) -> Entry:
    if within(folder, str(path.relative_to(folder))) is None:
        return Entry(file=path, problem="no file of this folder: a link that leads out of it, or something else")
    try:
        return _read_claim(path, replays)
    except EXPLAINED as error:
        return Entry(file=path, problem=make_printable(explain(error)))
    except (InputError, ConfigError, OSError, ValueError, TypeError, KeyError) as error:  # as `replay` has it
        return Entry(file=path, problem=make_printable(f"not an experiment: {type(error).__name__}: {error}"))


def _read_claim(path: Path, replays: Sequence[Record]) -> Entry:
    data, _ = read_source(path)
    config = resolve_config(data)
    if (claim := config.claim) is None:
        return Entry(file=path, problem="it has no claim; export writes an experiment with one")
    refuse_malformed(claim, [], config.num_images_per_prompt)
    solver = "" if config.sampler.name == "default" else describe_sampler(to_data(config.sampler))
    steps = name_steps(solver, config.steps or config.model.steps)
    against = f" against {claim.reference}" if claim.reference else ""
    return Entry(
        file=path,
        problem="",
        model=make_printable(model_name({**data["model"], "init": config.model.init.value})),
        setting=make_printable(f"{' + '.join(lossy_names(data)) or 'no cache'}, {steps}{against}"),
        claim=claim,
        images=f"{len(claim.pixels_sha256)} images of {claim.prompts} prompts",
        replays=tuple(_describe_replay(claim, record) for record in replays if _is_of(claim, record)),
    )


def _find_replays(outputs: Path) -> list[Record]:
    """Records of replays of claims; a claim stays in the config of its replay."""
    if not outputs.is_dir():
        return []
    try:
        jobs = list_jobs(outputs).jobs
    except ConfigError:
        return []
    replays = [job for job in jobs if job.status == "completed" and job.folder.name.endswith(REPLAY)]
    return [job.record for job in replays if job.record and job.record.config.get("claim")]


def _is_of(claim: ClaimConfig, record: Record) -> bool:
    theirs = record.config["claim"]
    same = ("fingerprint", "prompts_sha256", "pixels_sha256")
    return isinstance(theirs, dict) and all(theirs.get(key) == getattr(claim, key) for key in same)


def _describe_replay(claim: ClaimConfig, record: Record) -> str:
    try:
        verdict = combine_verdicts(verify_claim(claim, record))
    except Exception as error:
        return make_printable(f"replayed, but its record cannot be read: {type(error).__name__}")
    return make_printable(f"{verdict} on {record.environment.device_name}")


def page(entries: Sequence[Entry]) -> str:
    """Renders the page: it needs no network, no server and no script."""
    pictures = album(len(entries))
    cards = [_card(entry, pictures) for entry in entries if not entry.problem]
    return _template().render(
        cards=cards,
        problems=[entry for entry in entries if entry.problem],
        images=pictures.uris,
        style=(files("wavespeed_runner.report.page") / "page.css").read_text(encoding="utf-8"),
        version=__version__,
    )


def describe_figure(figure: ClaimedFigure | None, digits: int, unit: str) -> str:
    """`2.10x (1.98 to 2.41)`; empty where nothing is claimed."""
    if figure is None:
        return ""
    value, low, high = (
        "" if number is None else f"{number:.{digits}f}" for number in (figure.value, figure.low, figure.high)
    )
    return f"{value}{unit}" if not low or not high or low == high else f"{value}{unit} ({low} to {high})"


def _card(entry: Entry, pictures: Album) -> dict[str, Any]:
    claim = entry.claim
    assert claim
    names = (entry.file.with_suffix(end).name for end in PICTURES)
    beside = next((path for name in names if (path := within(entry.file.parent, name))), None)
    shown = ("wavespeed_runner", "torch", "diffusers")
    versions = [f"{name} {claim.versions[name]}" for name in shown if name in claim.versions]
    return {
        "entry": entry,
        "speed": describe_figure(claim.speedup, 2, "×"),  # noqa: RUF001
        "seconds": describe_figure(claim.seconds, 3, " s"),
        "ssim": describe_figure(claim.ssim, 4, ""),
        "forks": f"{claim.forks} of {len(claim.pixels_sha256)} images are forks" if claim.forks else "",
        "device": make_printable(claim.device_name),
        "versions": make_printable(", ".join(versions)),
        "image": pictures.add(beside),
        "check": make_printable(f"python -m wavespeed_runner replay {quote(str(entry.file))}"),
    }


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string((files(__package__) / "gallery.html.j2").read_text(encoding="utf-8"))
