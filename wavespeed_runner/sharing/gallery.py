"""A folder of shared experiments as one page: who claims what on which hardware, and whether it was replayed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Any

from ..config.claim import ClaimConfig, ClaimedFigure
from ..config.error_messages import EXPLAINED, explain
from ..config.lossy import lossy_names
from ..config.resolve import resolve_config
from ..config.schema import Seeds, to_data
from ..errors import ConfigError, format_error, make_printable
from ..inputs.files import InputError
from ..records.listing import list_jobs
from ..records.names import model_name
from ..records.record import Record
from ..records.reference import describe_sampler, name_steps
from ..report.page.images import Album, album, within
from ..report.page.static import render
from .claim_form import refuse_malformed
from .other_prompts import has_other_images, head_judgement, judge_claim
from .source import read_source
from .verdict import combine_verdicts, verify_claim

PROGRAM = "python -m wavespeed_runner"
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
    per_prompt: bool = False
    """Whether it has `seeds=per_prompt`, which changes nothing of one prompt."""
    replays: tuple[str, ...] = ()
    """`reproduced on AMD EPYC`, of each replay that left a record here, with the prompts and seeds of the claim."""
    judged: tuple[str, ...] = ()
    """`not settled (ssim) on 16 other prompts, AMD EPYC`: of replays with what is not the claim's, no verdict on it."""

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
    if not 0 < len(found) <= MOST_FILES:  # no more are looked for, so how many there are is not known
        many = f"more than {MOST_FILES}" if found else "no"
        raise ConfigError(f"{folder}: {many} .yaml files in it; 1 to {MOST_FILES} are shown")
    replays = _find_replays(outputs)
    return sorted((_read(folder, path, replays) for path in found), key=_order)


def _order(entry: Entry) -> tuple[bool, str, float, str]:
    speedup = entry.claim.speedup.value if entry.claim and entry.claim.speedup else 0.0
    return bool(entry.problem), entry.model, -speedup, entry.title


def _read(folder: Path, path: Path, replays: Sequence[Record]) -> Entry:
    if path.name.splitlines() != [path.name] or make_printable(str(path)) != str(path):
        return Entry(file=path, problem="its name has a line break or the like, so no command could name it; rename it")
    if within(folder, str(path.relative_to(folder))) is None:
        return Entry(file=path, problem="no file of this folder: a link that leads out of it, or something else")
    try:
        return _read_claim(path, replays)
    except EXPLAINED as error:
        return Entry(file=path, problem=make_printable(_leave_out_name(path, explain(error))))
    except (InputError, ConfigError, OSError, ValueError, TypeError, KeyError) as error:  # as `replay` has it
        return Entry(
            file=path, problem=make_printable(f"not an experiment: {_leave_out_name(path, format_error(error))}")
        )


def _leave_out_name(path: Path, problem: str) -> str:
    """A problem without the name of the file, which stands before it wherever it is told."""
    return problem.removeprefix(str(path)).removesuffix(f"; in {path}").lstrip(":, ")


def _read_claim(path: Path, replays: Sequence[Record]) -> Entry:
    data, _ = read_source(path)
    config = resolve_config(data)
    if (claim := config.claim) is None:
        return Entry(
            file=path, problem="it has no claim; export RUN writes an experiment with one, export IMAGE without"
        )
    refuse_malformed(claim, [], config.num_images_per_prompt)
    solver = "" if config.sampler.name == "default" else describe_sampler(to_data(config.sampler))
    steps = name_steps(solver, config.steps or config.model.steps)
    against = f" against {claim.reference}" if claim.reference else ""
    ours = [record for record in replays if _is_of(claim, record)]
    elsewhere = {
        id(record) for record in ours if has_other_images(claim, record, other_seed=_seed(record) != config.seed)
    }
    return Entry(
        file=path,
        problem="",
        model=make_printable(model_name({**data["model"], "init": config.model.init.value})),
        setting=make_printable(f"{' + '.join(lossy_names(data)) or 'no cache'}, {steps}{against}"),
        claim=claim,
        per_prompt=config.seeds is Seeds.per_prompt,
        images=f"{len(claim.pixels_sha256)} images of {claim.prompts} prompts",
        replays=tuple(_describe(record, claim) for record in ours if id(record) not in elsewhere),
        judged=tuple(_describe(record, claim, other=True) for record in ours if id(record) in elsewhere),
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


def _seed(record: Record) -> Any:
    return record.config.get("seed")


def _describe(record: Record, claim: ClaimConfig, *, other: bool = False) -> str:
    """The verdict of a replay; with `other` that of `replay` on other prompts or seeds, in its words."""
    device = record.environment.device_name
    try:
        if other:
            said = f"{head_judgement(claim, record, judge_claim(claim, record))}, {device}"
        else:
            said = f"{combine_verdicts(verify_claim(claim, record))} on {device}"
    except Exception as error:
        said = f"replayed, but its record cannot be read: {type(error).__name__}"
    return make_printable(said)


def page(entries: Sequence[Entry]) -> str:
    """Renders the page: it needs no network and no server."""
    embedded = album(len(entries))
    cards = [_card(entry, embedded) for entry in entries if not entry.problem]
    problems = [entry for entry in entries if entry.problem]
    return render(__package__, "gallery.html.j2", cards=cards, problems=problems, images=embedded.uris)


def describe_figure(figure: ClaimedFigure | None, digits: int, unit: str) -> str:
    """`2.10x (1.98 to 2.41)`; empty where nothing is claimed."""
    if figure is None:
        return ""
    value, low, high = (
        "" if number is None else f"{number:.{digits}f}" for number in (figure.value, figure.low, figure.high)
    )
    return f"{value}{unit}" if not low or not high or low == high else f"{value}{unit} ({low} to {high})"


def _card(entry: Entry, embedded: Album) -> dict[str, Any]:
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
        "meaning": _say_what_is_shown(claim),
        "ssim": describe_figure(claim.ssim, 4, ""),
        "forks": f"{claim.forks} of {len(claim.pixels_sha256)} images are forks" if claim.forks else "",
        "device": make_printable(claim.device_name),
        "versions": make_printable(", ".join(versions)),
        "image": embedded.add(beside),
        "use": make_printable(_say_how_to_use(entry)),
        "check": make_printable(f"{PROGRAM} replay {quote(str(entry.file))}"),
    }


def _say_how_to_use(entry: Entry) -> str:
    """The command for a prompt of the reader's; seeds of each prompt would be warned of, as having no effect."""
    same = f" seeds={Seeds.same.value}" if entry.per_prompt else ""
    return f"{PROGRAM} {quote(f'from={entry.file}')} prompt='...'{same}"


def _say_what_is_shown(claim: ClaimConfig) -> str:
    """What the large figure of a card is; where it is no speedup, why."""
    if claim.speedup:
        return "times as fast as its reference"
    reason = "it was not timed beside its reference" if claim.ssim else "it was not compared with a reference"
    return f"{'per image; ' if claim.seconds else ''}no speedup is claimed: {reason}"
