"""A few steps of each training, and a resumed run against an uninterrupted one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from training import denoising, flow, text, vae
from training.common import MovingAverage, append_row, forget_rows_after, schedule
from training.pool import Pool
from training.trainer import Trainer, checkpoints, newest_average, run

SHORT = {"steps": 4, "batch": 4, "first_chunks": 1, "grow_every": 2}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def untrained() -> tuple:
    """An autoencoder and text encoders that know nothing: only the machinery is tested."""
    torch.manual_seed(0)
    encoders = text.build()
    for part in (encoders.clip, encoders.t5):
        part.requires_grad_(False)
    return vae.build().eval().requires_grad_(False), encoders


def transformer_trainer(folder: Path) -> Trainer:
    return flow.Trainer(flow.Recipe(**SHORT), Pool(flow.Coding(*untrained()), 0, 0), folder, CPU)


def unet_trainer(folder: Path) -> Trainer:
    return denoising.Trainer(denoising.Recipe(**SHORT), Pool(denoising.Coding(*untrained()), 0, 0), folder, CPU)


@pytest.mark.parametrize("trainer", [transformer_trainer, unet_trainer])
def test_resumed_training_equals_uninterrupted_training(tmp_path: Path, trainer: Callable[[Path], Trainer]) -> None:
    whole = trainer(tmp_path / "whole")
    run(whole, save_every=100)

    first = trainer(tmp_path / "parts")
    for _ in range(2):
        first.train_step()
    first.save()
    second = trainer(tmp_path / "parts")
    second.resume()
    assert second.step == 2
    run(second, save_every=100)

    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    for name, value in whole.average.average.items():
        assert torch.equal(value, second.average.average[name]), name


def test_only_the_two_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    made = transformer_trainer(tmp_path)
    for step in (1, 2, 3):
        made.step = step
        made.save()
    assert [p.name for p in checkpoints(tmp_path)] == ["step_000002.pt", "step_000003.pt"]
    assert not list(tmp_path.glob("*.partial"))
    assert newest_average(tmp_path).keys() == made.model.state_dict().keys()


def test_without_a_checkpoint_there_is_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train first"):
        newest_average(tmp_path)


def test_schedule_rises_holds_and_falls_to_zero() -> None:
    rates = [schedule(step, 1000) for step in range(1001)]
    assert rates[0] < 0.05
    assert rates[60:700] == [1.0] * 640
    assert rates[1000] == pytest.approx(0.0)
    assert rates[700:] == sorted(rates[700:], reverse=True)


def test_moving_average_follows_quickly_at_first() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    average = MovingAverage(module, decay=0.999)
    torch.nn.init.constant_(module.weight, 5.0)
    for step in range(50):
        average.update(module, step)
    assert average.average["weight"].item() == pytest.approx(5.0, abs=0.01)


def test_a_resumed_log_has_no_line_twice(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    for step in (25, 50, 75):
        append_row(log, {"step": step, "loss": 0.1})
    forget_rows_after(log, 50)
    append_row(log, {"step": 75, "loss": 0.2})
    assert log.read_text().splitlines() == ["step,loss", "25,0.1", "50,0.1", "75,0.2"]
