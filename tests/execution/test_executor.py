"""Execution: only missing results are computed, stored ones are read, and failures leave nothing half done."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.execution.toy_stages import SAMPLE, NoOptions, Work
from wavespeed_runner.artifacts import Embeddings, Images
from wavespeed_runner.errors import RunError
from wavespeed_runner.execution.executor import Executor
from wavespeed_runner.planning.graph import Graph, Node, mark_lasting
from wavespeed_runner.planning.store_keys import compute_keys
from wavespeed_runner.records.sample import StageRun
from wavespeed_runner.registry import lookup
from wavespeed_runner.stages import stage
from wavespeed_runner.storage.store import Store


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


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({}, "its images is nothing of shape []"),
        ({"images": np.zeros((1, 4, 4, 3), np.float32)}, "its images is F32 of shape [1, 4, 4, 3]"),
        ({"images": np.zeros((4, 4, 3), np.uint8)}, "its images is U8 of shape [4, 4, 3]"),
    ],
)
def test_an_entry_that_holds_something_else_is_computed_again(
    tensors: dict[str, Any], says: str, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    first, _ = work.run()
    key = work.keys["image"]
    work.store.path(key).unlink()
    work.store.write(key, Images(tensors=tensors).to_bytes(), stage="decode")
    with caplog.at_level(logging.WARNING, "wavespeed_runner"):
        second, _ = work.run()
    assert work.calls == ["load", "image"] and says in caplog.text and work.store.damaged == [key]
    assert (second["image"].tensors["images"] == first["image"].tensors["images"]).all()


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
    """Its key does not determine its output, so a stored result could belong to another run."""
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
