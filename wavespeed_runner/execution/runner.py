"""Runs a plan into a folder: images, references, comparison, record. Whatever happens, a record is left.

`_execute` and `_run_batch` are the whole of a run on one screen.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic

from ..errors import format_error
from ..media.contact_sheet import COLUMNS
from ..planning.plan import Plan
from ..process import interrupts
from ..process.logging_setup import log_warnings
from ..records.file import write_record
from ..records.new import new_record, write_config
from ..records.record import Failure, Record
from . import noise_floor
from .batches import Pass, list_batches, run_pass
from .conclusion import conclude_record
from .data_ranks import DataRanks, share_out
from .executor import Executor
from .judging import Opened, open_judges
from .outputs import Column, save_overview, save_sample
from .process_cache import ProcessCache
from .ranks.adopted import explain_interrupt
from .sample_record import describe_sample
from .trace_files import write_trace

RECORD_S = 1.0
"""Least seconds between two writes of the record while a job of a sweep runs."""

log = logging.getLogger("wavespeed_runner")


def run_plan(plan: Plan, folder: Path, overrides: list[str], *, cache: ProcessCache | None = None) -> Record:
    """Runs a plan into a folder and returns its record, which is also written there; its `status` says how it ended.

    A failed run keeps no model and no traceback alive.

    Args:
        plan: what to run.
        folder: where images and record go.
        overrides: as they were typed; they go into the record.
        cache: what earlier jobs of a sweep have loaded and read, for the next ones; emptied when this one fails. A job
            of a sweep writes no `overview.png` and no `trace.png`, since the report of the sweep shows both, and
            writes its record at most once a second while it runs.

    Raises:
        KeyboardInterrupt: after the record of the interrupted run is written. Nothing else is raised.
    """
    if cache is not None:
        cache.keep_only({key for keys in (*plan.keys, *plan.reference_keys) for key in keys.values()})
    record = new_record(plan, overrides)
    stage = "start"

    def on_stage(name: str) -> None:
        nonlocal stage
        stage = name

    executor = Executor(
        plan.store,
        rerun=plan.config.rerun,
        on_stage=on_stage,
        device=plan.config.device,
        cache=cache,
        rank_logs=folder / "ranks",
    )
    try:
        with log_warnings():  # of libraries: what numpy says of a division, for example
            _execute(plan, folder, executor, record)
        record.status = "completed"
    except BaseException as error:  # a library's exit(), or its panic in Rust, must not end a sweep
        if isinstance(error, KeyboardInterrupt) or interrupts.was_interrupted():
            # It comes at any moment, also while this rank has not yet noticed, or is just saying, that another is lost.
            if lost := explain_interrupt():
                _record_failure(record, stage, lost)
            else:
                record.error = Failure(stage=stage, type="KeyboardInterrupt", message="interrupted")
                raise KeyboardInterrupt from None
        else:
            _record_failure(record, stage, error)
    finally:
        executor.close()
        try:
            conclude_record(plan, executor.store, record)
            write_record(folder, record)
        except Exception as error:
            _record_failure(record, "record", error)
        if cache is not None and record.status != "completed":
            cache.clear()  # here, where no exception holds the frames that refer to the model
    return record


def _execute(plan: Plan, folder: Path, executor: Executor, record: Record) -> None:
    """Runs and saves every image of a plan, batch after batch; then measures the noise floor."""
    write_config(folder, plan)
    write_record(folder, record)  # from here on a kill, too, leaves a record
    executor.on_stage("metrics")
    judges = open_judges(plan)
    columns: list[Column] = []
    last_write, in_sweep = monotonic(), executor.cache is not None
    with share_out(plan, executor, _list_passes(plan), again=plan.config.measure.in_turn) as ranks:
        for batch in _show_progress(plan):
            for column in _run_batch(plan, folder, executor, record, batch, ranks, judges):
                # The overview only counts the columns that it leaves out: their images need not be kept.
                columns.append(column if len(columns) < COLUMNS else columns[-1])
                if not in_sweep or monotonic() - last_write > RECORD_S:
                    write_record(folder, record)
                    last_write = monotonic()
    if not in_sweep:
        save_overview(plan, folder, columns)
    write_trace(folder, record, plot=not in_sweep)
    noise_floor.measure(plan, executor, record)
    interrupts.raise_if_interrupted()


def _run_batch(
    plan: Plan,
    folder: Path,
    executor: Executor,
    record: Record,
    batch: range,
    ranks: DataRanks | None,
    judges: Sequence[Opened],
) -> Iterator[Column]:
    """Runs reference and candidate for the images of a batch, compares and saves them; yields what the overview shows.

    Each node of a graph is a stage, a function in `wavespeed_runner/stages`: `load` the pipeline, `encode` the prompt,
    `denoise` the latents, `decode` them to an image. The reference runs right before the candidate, so that both are
    timed on a machine in the same state.

    Args:
        plan: of the run.
        folder: of the run.
        executor: of this process.
        record: of the run.
        batch: indices of its images.
        ranks: who makes the batches, with `parallel=data`.
        judges: of the run.
    """
    interrupts.raise_if_interrupted()
    made = ranks.finish(batch) if ranks else None
    record.stages += made or []
    values = {
        each.of: run_pass(plan, executor, record.stages, batch, each, is_made=made is not None)
        for each in _list_passes(plan)
    }
    executor.on_stage("images")
    references = values.get("reference", [{}] * len(batch))
    for index, result, reference in zip(batch, values["run"], references, strict=True):
        sample = describe_sample(plan.samples[index], index, result, reference, record.stages)
        if ranks and sample.rank is not None:
            for engaged in sample.engaged.values():
                engaged.parallel = ranks.evidence
        for engaged in sample.engaged.values():
            if engaged.parallel and (tiles := result[plan.graph.output].data.get("tiles")):
                engaged.parallel["tiles"] = tiles
        column = save_sample(plan, folder, index, sample, result, reference, judges)
        record.samples.append(sample)
        yield column


def _list_passes(plan: Plan) -> list[Pass]:
    """What every image goes through: the graph of the reference, if there is one, and that of the candidate."""
    passes = [Pass(graph=plan.graph, keys=plan.keys, of="run")]
    if plan.reference:
        passes.insert(0, Pass(graph=plan.reference, keys=plan.reference_keys, of="reference"))
    return passes


def _show_progress(plan: Plan) -> Iterator[range]:
    """Yields the indices of the images of each batch, and shows a progress bar."""
    from tqdm import tqdm

    with tqdm(total=len(plan.samples), desc="images", unit="image", leave=False, disable=None) as bar:
        for batch in list_batches(plan):
            yield batch
            bar.update(len(batch))


def _record_failure(record: Record, stage: str, error: BaseException) -> None:
    """Notes the first failure of a run."""
    record.status = "failed"
    if record.error is None:
        record.error = Failure(stage=stage, type=type(error).__name__, message=format_error(error))
    log.debug("stage '%s' failed", stage, exc_info=True)
