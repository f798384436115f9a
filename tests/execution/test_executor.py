"""Execution: only what is needed runs, what the store has is read, and nothing stays behind."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wavespeed_runner.artifacts import Embeddings, Images, Latents, Pipeline, Sample
from wavespeed_runner.errors import RunError
from wavespeed_runner.execution.executor import Executor
from wavespeed_runner.execution.process_cache import ProcessCache, release
from wavespeed_runner.planning.graph import Graph, Node, mark_lasting
from wavespeed_runner.planning.store_keys import compute_keys
from wavespeed_runner.records.sample import StageRun
from wavespeed_runner.registry import lookup
from wavespeed_runner.stages import stage
from wavespeed_runner.storage.store import Store

SAMPLE = Sample(prompt="a red circle", seed=1)


@dataclass(kw_only=True)
class NoOptions:
    pass


class Work:
    """A graph of toy stages that write down their calls: load, words, noise, image, and a note that nothing takes."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.calls: list[str] = []
        self.loaded: list[weakref.ref[Any]] = []
        self.image: Callable[[], Any] = lambda: np.arange(4 * 4 * 3, dtype=np.uint8).reshape(1, 4, 4, 3)
        self.seconds: Callable[[], float] = lambda: 0.0
        inputs = {
            "load": {},
            "words": {"pipeline": "load", "sample": "sample"},
            "noise": {"pipeline": "load", "words": "words"},
            "image": {"pipeline": "load", "noise": "noise"},
            "note": {"words": "words"},
        }
        self._register()
        nodes = {
            name: Node(
                name=name, stage=lookup("stage", f"toy_{name}").implementation, options=NoOptions(), inputs=given
            )
            for name, given in inputs.items()
        }
        self.graph = Graph(nodes=nodes, output="image")
        self.keys = compute_keys(self.graph, SAMPLE, {})

    def _register(self) -> None:
        def toy(name: str, pure: bool = True) -> Any:
            return stage(f"toy_{name}", options=NoOptions, pure=pure)

        @toy("load", pure=False)
        def load(options: NoOptions) -> Pipeline:
            self.calls.append("load")
            pipeline = Pipeline(pipe=None, model=None, family=None, device="cpu")
            self.loaded.append(weakref.ref(pipeline))
            return pipeline

        @toy("words")
        def words(options: NoOptions, *, pipeline: Pipeline, sample: Sample) -> Images:
            self.calls.append("words")
            return Images(tensors={"images": np.zeros(sample.seed)})

        @toy("noise")
        def noise(options: NoOptions, *, pipeline: Pipeline, words: Images) -> Latents:
            self.calls.append("noise")
            return Latents(tensors={}, data={"steps": [], "seconds": self.seconds()})

        @toy("image")
        def image(options: NoOptions, *, pipeline: Pipeline, noise: Latents) -> Images:
            self.calls.append("image")
            made = self.image()
            return Images(tensors={"images": made}) if isinstance(made, np.ndarray) else made

        @toy("note")
        def note(options: NoOptions, *, words: Images) -> Images:
            self.calls.append("note")
            return Images(tensors={})

    def run(self, executor: Executor | None = None, **options: Any) -> tuple[dict[str, Any], list[StageRun]]:
        """What one more process would do: values and what ran. `calls` then holds this run's calls alone."""
        self.calls.clear()
        executor = executor or Executor(self.store, **{"rerun": False, "on_stage": lambda name: None, **options})
        runs: list[StageRun] = []
        return executor.run(self.graph, [SAMPLE], [self.keys], runs)[0], runs


@pytest.fixture
def work(own_registry: Any, tmp_path: Path) -> Work:
    return Work(tmp_path / "store")


def test_everything_runs_once_in_order_with_an_empty_store(work: Work) -> None:
    values, runs = work.run()
    assert work.calls == ["load", "words", "noise", "image", "note"] == [run.name for run in runs]
    assert {run.source for run in runs} == {"computed"} and all(run.seconds >= 0 for run in runs)
    assert set(values) == {"sample", *work.calls}


def test_with_a_warm_store_nothing_runs_and_nothing_is_loaded(work: Work) -> None:
    first, _ = work.run()
    second, runs = work.run()
    assert work.calls == [] and {run.source for run in runs} == {"store"}
    assert (second["image"].tensors["images"] == first["image"].tensors["images"]).all()


def test_only_what_is_missing_runs_and_what_that_needs(work: Work) -> None:
    work.run()
    work.store.path(work.keys["image"]).unlink()
    _, runs = work.run()
    assert work.calls == ["load", "image"]
    assert {run.name for run in runs if run.source == "store"} == {"noise", "note"}


def test_a_stage_that_nothing_takes_runs_too(work: Work) -> None:
    work.run()
    work.store.path(work.keys["note"]).unlink()
    work.run()
    assert work.calls == ["note"]


def test_latents_are_read_for_the_record_also_when_the_image_is_there(work: Work) -> None:
    work.run()
    values, _ = work.run()
    assert values["noise"].data == {"steps": [], "seconds": 0.0}


def test_a_damaged_entry_is_found_warned_of_and_computed_again(work: Work, caplog: pytest.LogCaptureFixture) -> None:
    first, _ = work.run()
    path = work.store.path(work.keys["image"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + b"\0\0\0")
    with caplog.at_level(logging.WARNING, "wavespeed_runner"):
        second, _ = work.run()
    assert work.calls == ["load", "image"] and "damaged" in caplog.text
    assert work.store.damaged == [work.keys["image"]]
    assert (second["image"].tensors["images"] == first["image"].tensors["images"]).all()
    assert path.read_bytes()[-48:] == whole[-48:]


def test_a_rerun_computes_every_key_again_but_only_once(work: Work) -> None:
    work.run()
    executor = Executor(work.store, rerun=True, on_stage=lambda name: None)
    work.run(executor)
    assert work.calls == ["load", "words", "noise", "image", "note"]
    work.run(executor)
    assert work.calls == []


def test_the_name_of_the_stage_is_told_before_it_runs(work: Work) -> None:
    told: list[str] = []
    work.image = lambda: told.append("image runs") or np.zeros((1, 4, 4, 3), np.uint8)
    work.run(on_stage=told.append)
    assert told == ["load", "words", "noise", "image", "image runs", "note"]


@pytest.mark.parametrize("wrong", [None, "text", Embeddings(tensors={})], ids=["None", "str", "Embeddings"])
def test_a_value_of_another_type_than_declared_is_refused_and_not_stored(work: Work, wrong: Any) -> None:
    work.image = lambda: wrong
    with pytest.raises(RunError, match=rf"stage 'image' returned {type(wrong).__name__}, not Images as it declares"):
        work.run()
    assert work.keys["image"] not in work.store


def test_what_ran_before_a_failure_is_listed_and_stored(work: Work) -> None:
    work.image = lambda: 1 / 0
    runs: list[StageRun] = []
    with pytest.raises(ZeroDivisionError):
        Executor(work.store, rerun=False, on_stage=str).run(work.graph, [SAMPLE], [work.keys], runs)
    assert [run.name for run in runs] == ["load", "words", "noise"]
    assert work.keys["noise"] in work.store


def test_a_model_is_kept_between_runs_and_let_go_on_close(work: Work) -> None:
    executor = Executor(work.store, rerun=False, on_stage=lambda name: None)
    work.run(executor)
    work.store.path(work.keys["image"]).unlink()
    work.run(executor)
    assert work.calls == ["image"] and work.loaded[0]() is not None
    executor.close()
    assert work.loaded[0]() is None


@pytest.mark.parametrize(
    "turn",
    [lambda p: p[:, ::-1], lambda p: p[:, :, ::-1], lambda p: p[..., ::-1], np.asfortranarray, lambda p: p[:, ::2]],
    ids=["upside down", "mirrored", "blue first", "column by column", "every other row"],
)
def test_a_image_comes_back_from_the_store_as_it_went_in_however_it_lay_in_memory(work: Work, turn: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 6, 3), np.uint8)
    work.image = lambda: turn(pixels)
    work.run()
    values, _ = work.run()
    assert work.calls == [] and np.array_equal(values["image"].tensors["images"], turn(pixels))


def test_one_tensor_under_two_names_can_be_stored() -> None:
    torch = pytest.importorskip("torch")
    shared = torch.arange(6.0)
    back = Embeddings.from_bytes(Embeddings(tensors={"a": shared, "b": shared, "c": shared[::2]}).to_bytes())
    assert back.tensors["a"].equal(shared) and back.tensors["b"].equal(shared) and back.tensors["c"].equal(shared[::2])


def test_data_that_the_record_could_not_hold_fails_the_stage_that_made_it() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Images(tensors={}, data={"seconds": [float("nan")]}).to_bytes()


def test_nothing_behind_an_impure_stage_is_stored(own_registry: Any, tmp_path: Path) -> None:
    """Its key cannot say what it will give, so a stored result might be another one's."""
    calls: list[str] = []

    @stage("toy_dice", options=NoOptions, pure=False)
    def dice(options: NoOptions) -> Embeddings:
        calls.append("dice")
        return Embeddings(tensors={})

    @stage("toy_copy", options=NoOptions)
    def copy(options: NoOptions, *, dice: Embeddings) -> Images:
        calls.append("copy")
        return Images(tensors={"images": np.zeros((1, 4, 4, 3), dtype=np.uint8)})

    plain = [
        Node(name="dice", stage=lookup("stage", "toy_dice").implementation, options=NoOptions(), inputs={}),
        Node(
            name="copy", stage=lookup("stage", "toy_copy").implementation, options=NoOptions(), inputs={"dice": "dice"}
        ),
    ]
    graph = Graph(nodes=mark_lasting(plain), output="copy")
    executor = Executor(Store(tmp_path), rerun=False, on_stage=lambda name: None)
    for _ in range(2):
        executor.run(graph, [SAMPLE], [compute_keys(graph, SAMPLE, {})], [])
    assert calls == ["dice", "copy", "dice", "copy"]
    assert Store(tmp_path).size() == (0, 0)
    assert not executor.resources


@dataclass
class Device:
    """Stands in for a GPU: what was asked of its memory."""

    emptied: int = 0

    def empty_cache(self) -> None:
        self.emptied += 1


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Device:
    torch = pytest.importorskip("torch")
    device = Device()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", device.empty_cache)
    return device


def test_a_model_that_is_let_go_on_close_leaves_the_gpu_s_memory_to_others(work: Work, gpu: Device) -> None:
    executor = Executor(work.store, rerun=False, on_stage=lambda name: None)
    work.run(executor)
    assert gpu.emptied == 0
    executor.close()
    assert gpu.emptied == 1 and work.loaded[0]() is None


def test_a_model_that_makes_place_for_another_leaves_it_the_gpu_s_memory(work: Work, gpu: Device) -> None:
    executor = Executor(work.store, rerun=False, on_stage=lambda name: None)
    work.run(executor)
    (key,) = executor.resources
    release(executor.resources, keep={key, "another"})
    assert gpu.emptied == 0 and key in executor.resources, "nothing went"
    release(executor.resources, keep={"another"})
    assert gpu.emptied == 1 and not executor.resources and work.loaded[0]() is None


def test_where_nothing_is_kept_what_a_failed_load_has_left_goes_too(gpu: Device) -> None:
    """It never got among the resources."""
    release({})
    assert gpu.emptied == 1


def test_memory_holds_what_was_written_last() -> None:
    cache = ProcessCache(limit=10)
    cache.remember("a", b"1234")
    cache.remember("a", b"567")
    assert cache.read("a") == b"567"
    cache.remember("b", b"1234567")
    assert (cache.read("a"), cache.read("b")) == (b"567", b"1234567"), "ten bytes, for the old value counts no more"
    cache.remember("b", b"12345678901")
    assert cache.read("b") is None, "too large to be kept, and what was there is out of date"
    cache.remember("c", b"1234567")
    assert (cache.read("a"), cache.read("c")) == (b"567", b"1234567")


@pytest.mark.parametrize("how", [{"rerun": True}, {"denoise_again": True}], ids=["rerun", "in turn"])
def test_what_is_computed_again_is_what_the_next_job_of_a_sweep_gets(work: Work, how: dict[str, bool]) -> None:
    """New timings stand in the store; the ones before must not come back out of memory."""
    cache, made = ProcessCache(), iter(range(10))

    def job(rerun: bool = False, **again: bool) -> Any:
        executor = Executor(work.store, rerun=rerun, on_stage=lambda name: None, cache=cache)
        return executor.run(work.graph, [SAMPLE], [work.keys], [], **again)[0]["noise"].data["seconds"]

    work.seconds = lambda: next(made)
    work.run()  # by an earlier process: a rerun computes again what this one has not made
    assert (job(), job()) == (0, 0)
    assert job(**how) == 1
    assert job() == 1
    kept = cache.read(work.keys["noise"])
    assert kept is not None and kept == work.store.read(work.keys["noise"])
