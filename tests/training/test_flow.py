"""Three steps of training, and a resumed run against an uninterrupted one."""

from pathlib import Path

import pytest
import torch

from training import flow, text, transformer, vae
from training.common import MovingAverage, append_row, forget_rows_after, schedule
from training.pool import Pool

RECIPE = flow.Recipe(steps=4, batch=4, first_chunks=1, grow_every=2)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trainer(folder: Path) -> flow.Trainer:
    """With an untrained autoencoder and untrained text encoders: only the machinery is tested."""
    torch.manual_seed(0)
    encoders = text.build()
    encoders.clip.requires_grad_(False)
    encoders.t5.requires_grad_(False)
    pool = Pool(vae.build(), encoders, seed=0, rank=0)
    return flow.Trainer(RECIPE, pool, folder, torch.device("cpu"))


def test_resumed_training_equals_uninterrupted_training(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    flow.run(whole, save_every=100)

    first = trainer(tmp_path / "parts")
    for _ in range(2):
        first.train_step()
    first.save()
    second = trainer(tmp_path / "parts")
    second.resume()
    assert second.step == 2
    flow.run(second, save_every=100)

    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    for name, value in whole.average.average.items():
        assert torch.equal(value, second.average.average[name]), name


def test_only_the_two_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    for step in (1, 2, 3):
        made.step = step
        made.save()
    assert [p.name for p in flow.checkpoints(tmp_path)] == ["step_000002.pt", "step_000003.pt"]
    assert not list(tmp_path.glob("*.partial"))


def test_an_untrained_transformer_predicts_zero() -> None:
    """The zeroed layers are the right ones: the first loss is that of predicting nothing."""
    model = transformer.build()
    image, words = transformer.position_ids(torch.device("cpu"))
    made = model(
        hidden_states=torch.randn(1, 64, 16),
        timestep=torch.tensor([0.5]),
        encoder_hidden_states=torch.randn(1, text.LENGTH, text.WIDTH),
        pooled_projections=torch.randn(1, text.WIDTH),
        img_ids=image,
        txt_ids=words,
        return_dict=False,
    )[0]
    assert torch.equal(made, torch.zeros_like(made))
    assert any(p.abs().sum() > 0 for p in model.parameters())


def test_sigmas_lie_inside_and_mostly_high() -> None:
    sigmas = flow.draw_sigmas(10_000, 0.2, torch.Generator().manual_seed(0))
    assert ((sigmas > 0) & (sigmas < 1)).all()
    assert 0.55 < sigmas.mean() < 0.65


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
