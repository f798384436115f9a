"""Runs settings on the first prompts of a list, as a sweep, and reads what their records say.

A round is a sweep in a folder of the tuning's own: it goes on after a kill, runs on Slurm, and denoises nothing twice.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..config.compose import find_key
from ..errors import ConfigError, RunError
from ..records.file import FILE, read_record
from ..storage.atomic import write_text
from ..sweeps.folder import SweepFolder
from ..sweeps.jobs import SWEEPS_ONLY, Job, plan_jobs
from ..sweeps.sweep import run_sweep
from .bounds import FORKS, Bound
from .progress import RoundProgress
from .result import Failure, Result, find_most_speed, is_impossible, read_by_prompt, read_result
from .settings import Setting, write_command


@dataclass(kw_only=True)
class Rounds:
    """Runs rounds, one after another.

    Their folders are numbered: the same search makes the same ones, and finds what is done already.
    """

    folder: Path
    """Of the tuning."""
    args: Namespace
    """`overrides` and `config_dir` of the command, without prompts."""
    prompts: list[str]
    """Of this half."""
    seed: int
    name: str
    """Of the half: `tuning` or `judging`."""
    bounds: Sequence[Bound] = ()
    """What is looked for: its figures are told as settings end."""
    images_each: int = 1
    """Images of a prompt."""
    count: int = 0
    jobs: int = 0
    """That were asked for so far."""
    images: int = 0
    work: float = 0.0
    """What was denoised so far, in full runs of one image; what the store had is counted once."""
    denoised: set[tuple[str, int]] = field(default_factory=set)
    """Setting and place of a prompt."""
    results: list[Result] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    tell: Callable[[str], None] = lambda line: None
    explained: bool = False
    """It was said what stands for a time that cannot be."""

    def run(self, settings: Sequence[Setting], prompts: int, more: Sequence[str] = ()) -> list[Result | None]:
        """Runs settings on the first prompts.

        Args:
            settings: all different.
            prompts: how many.
            more: overrides of all of them, with which all is denoised again and timed beside the reference.

        Returns:
            The results in the order of the settings; None for one that failed, see `failures`.

        Raises:
            KeyboardInterrupt: as of a sweep.
        """
        if not settings:
            return []
        self.count += 1
        self.jobs += len(settings)
        self._count(settings, prompts, again=bool(more))
        folder = self.folder / self.name / f"{self.count:03d}"
        given = [*self._choose_prompts(prompts), f"seed={self.seed}", *more, f"hydra.sweep.dir={folder}"]
        command = write_command(self.args, [setting.point for setting in settings], given)
        jobs = plan_jobs(command)
        sweep = SweepFolder(path=folder)
        names = [setting.name for setting in settings]
        run_sweep(
            command,
            jobs,
            progress=partial(
                RoundProgress,
                names=names,
                figures=partial(self._say_bounds, sweep),
                limit=partial(self._limit_speed, sweep),
            ),
        )
        found = [self._read(setting, sweep, job, prompts) for setting, job in zip(settings, jobs, strict=True)]
        self._explain(found)
        if more:
            self._correct_times({one.setting.identity: one for one in found if one})
        else:
            self.results += [one for one in found if one]
        return found

    def _correct_times(self, timed: dict[str, Result]) -> None:
        """Puts times that were taken beside the reference's into the place of those that were not."""
        self.results = [one.timed_as(timed.get(one.setting.identity)) for one in self.results]

    def _explain(self, found: Sequence[Result | None]) -> None:
        if not self.explained and any(one and one.foreseen for one in found):
            self.explained = True
            self.tell(
                "some times are less than what was computed allows, because the machine was busier while their "
                "references were timed: the share that was computed stands for them, as ~ the most that it allows"
            )

    def _count(self, settings: Sequence[Setting], prompts: int, *, again: bool) -> None:
        """Counts what these runs denoise: with `again` all of it and the reference, else what is new."""
        for setting in settings:
            new = {(setting.identity, place) for place in range(prompts)} - (set() if again else self.denoised)
            self.denoised |= new
            self.images += len(new) * self.images_each
            self.work += len(new) * ((setting.work or 1.0) + again) * self.images_each
        if not again:
            new = {("", place) for place in range(prompts)} - self.denoised
            self.denoised |= new
            self.work += len(new) * self.images_each

    def prompt_file(self, count: int) -> Path:
        """Where the first prompts are written for the runs, one a line."""
        return self.folder / "prompts" / f"{self.name}_{count}.txt"

    def write_prompts(self, count: int) -> Path:
        """Writes the first prompts and returns the file."""
        write_text(file := self.prompt_file(count), "".join(f"{prompt}\n" for prompt in self.prompts[:count]))
        return file

    def _choose_prompts(self, count: int) -> list[str]:
        return ["prompts=file", f"prompts.path={self.write_prompts(count)}", *self._keep_seeds()]

    def _keep_seeds(self) -> list[str]:
        typed = any(find_key(override) == "seeds" for override in self.args.overrides)
        return [] if typed else ["seeds=per_prompt"]

    def _say_bounds(self, sweep: SweepFolder, number: int) -> str:
        """The figures of a job that are bounded, other than the mean SSIM and forks, which every job tells."""
        told = [one for one in self.bounds if one.metric != FORKS and (one.metric, one.statistic) != ("ssim", "mean")]
        if not told:
            return ""
        try:
            record = read_record(sweep.job(number) / FILE)
            named = [(one, one.estimate(read_by_prompt(record, one.metric))) for one in told]
        except (RunError, ConfigError):  # `_read` tells why
            return ""
        return "  ".join(f"{one.name} {value:.4g}" for one, value in named)

    def _limit_speed(self, sweep: SweepFolder, number: int) -> float | None:
        """The most that what was computed allows, of a job that was timed as faster than that; else None."""
        try:
            record = read_record(sweep.job(number) / FILE)
            speedup = record.timing.speedup if record.timing else None
            return find_most_speed(record) if is_impossible(record, speedup) else None
        except (RunError, ConfigError):  # `_read` tells why
            return None

    def _read(self, setting: Setting, sweep: SweepFolder, job: Job, prompts: int) -> Result | None:
        """What a job's record says; None, with a failure noted, where it says nothing that counts."""
        try:
            if not sweep.is_done(job):
                raise RunError(sweep.outcome_of(job).reason or "it left no record")
            folder = sweep.job(job.number)
            return read_result(read_record(folder / FILE), setting, folder, prompts)
        except (RunError, ConfigError) as error:
            self.failures.append(Failure(setting=setting, reason=str(error)))
            return None


def strip_sweep_keys(overrides: Sequence[str]) -> list[str]:
    """The overrides that a single run takes: without those of launcher and sweeper."""
    return [override for override in overrides if not find_key(override).startswith(SWEEPS_ONLY)]
