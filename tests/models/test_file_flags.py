"""Flags in single files decide how the model is sampled: the noise levels are those of diffusers' own scheduler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from safetensors.torch import save_file

from tests.models import original_layout
from tests.models.shipped import config_of
from wavespeed_runner.config.schema import Dtype, Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.registry import find_implementation

Composed = Callable[..., dict[str, Any]]
EMPTY = torch.zeros(0)


class Saved:
    """A tiny model saved to a folder, and single files of it."""

    def __init__(self, folder: Path, name: str = "sdxl") -> None:
        self.config = replace(config_of(name), dtype=Dtype.float32)
        self.family, self.folder = find_implementation("model", self.config), folder
        self.pipe = load(self.family, self.config, "cpu")
        self.pipe.save_pretrained(folder)
        self.state = original_layout.build_state_dict(self.pipe)

    def write(self, added: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
        file = self.folder / "flagged.safetensors"
        save_file(self.state | added, file, metadata)
        return file

    def load(self, file: Path) -> Any:
        given = {"init": Init.pretrained, "repo": str(file), "components": str(self.folder)}
        return load(self.family, replace(self.config, **given), "cpu")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return Saved(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def plan(saved: Saved, composed: Composed) -> Callable[..., Any]:
    def plan(file: Path, *more: str) -> Any:
        model = ("model=sdxl", f"model.repo={file}", f"model.components={saved.folder}", "width=64", "height=64")
        return build_plan(composed(*model, "model.init=pretrained", "model.dtype=float32", "steps=4", *more))

    return plan


FLAGS: tuple[tuple[dict[str, torch.Tensor], dict[str, str] | None, dict[str, Any]], ...] = (
    ({"v_pred": EMPTY}, None, {"prediction_type": "v_prediction"}),
    (
        {"v_pred": EMPTY, "ztsnr": EMPTY},
        None,
        {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    ),
    ({}, {"modelspec.prediction_type": "v"}, {"prediction_type": "v_prediction"}),
    ({}, {"modelspec.prediction_type": "epsilon"}, {}),
)


@pytest.mark.parametrize(("added", "metadata", "settings"), FLAGS, ids=["v_pred", "ztsnr", "modelspec v", "epsilon"])
def test_a_flag_sets_the_scheduler_and_is_in_the_plan(
    saved: Saved, plan: Callable[..., Any], added: Any, metadata: Any, settings: dict[str, Any]
) -> None:
    file = saved.write(added, metadata)
    changes = {change.key: change.value for change in plan(file).changes if change.key.startswith("scheduler.")}
    assert changes == {f"scheduler.{key}": value for key, value in settings.items()}
    found = saved.load(file).scheduler
    theirs = EulerDiscreteScheduler.from_config(saved.pipe.scheduler.config, **settings)
    for scheduler in (found, theirs):
        scheduler.set_timesteps(4)
    assert torch.equal(found.sigmas, theirs.sigmas) and torch.equal(found.timesteps, theirs.timesteps)
    assert found.config.prediction_type == theirs.config.prediction_type
    if "ztsnr" in added:  # as the paper has it: the first step of four is the last of training, and pure noise
        assert found.timesteps.tolist() == [999, 749, 499, 249] and found.sigmas[0] > 1000


@pytest.mark.parametrize(("said", "changes"), [("epsilon", {"prediction_type": "epsilon"}), ("v", {})])
def test_a_prediction_counts_where_the_folder_predicts_velocity(
    tmp_path: Path, composed: Composed, said: str, changes: dict[str, str]
) -> None:
    """As the scheduler published with Stable Diffusion 2.1 does, and its base model does not."""
    saved = Saved(tmp_path, "sd21")
    saved.pipe.scheduler = DDIMScheduler.from_config(saved.pipe.scheduler.config, prediction_type="v_prediction")
    saved.pipe.scheduler.save_pretrained(tmp_path / "scheduler")
    (index := tmp_path / "model_index.json").write_text(index.read_text().replace("PNDMScheduler", "DDIMScheduler"))
    file = saved.write({}, {"modelspec.prediction_type": said})
    given = (f"model.repo={file}", f"model.components={tmp_path}", "width=64", "height=64", "model.init=pretrained")
    plan = build_plan(composed("model=sd21", *given, "model.dtype=float32", "steps=2"))
    found = {change.key: change.value for change in plan.changes if change.key.startswith("scheduler.")}
    assert found == {f"scheduler.{key}": value for key, value in changes.items()}
    scheduler = saved.load(file).scheduler
    theirs = DDIMScheduler.from_config(saved.pipe.scheduler.config, **changes)
    for each in (scheduler, theirs):
        each.set_timesteps(2)
    noise, latents = torch.ones(1, 4, 8, 8), torch.full((1, 4, 8, 8), 0.5)
    step = theirs.timesteps[0]
    assert torch.equal(scheduler.step(noise, step, latents)[0], theirs.step(noise, step, latents)[0])


def test_a_sampler_keeps_the_flags(saved: Saved) -> None:
    from wavespeed_runner.samplers.build import build_scheduler
    from wavespeed_runner.samplers.options import OPTIONS

    pipe = saved.load(saved.write({"v_pred": EMPTY, "ztsnr": EMPTY}))
    built = build_scheduler(pipe, OPTIONS["ddim"]())
    theirs = DDIMScheduler.from_config(
        pipe.scheduler.config, rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False
    )
    built.set_timesteps(4)
    theirs.set_timesteps(4)
    assert torch.equal(built.alphas_cumprod, theirs.alphas_cumprod) and torch.equal(built.timesteps, theirs.timesteps)
    assert built.config.prediction_type == "v_prediction"


@pytest.mark.parametrize(
    ("added", "metadata", "says"),
    [
        ({"ztsnr": EMPTY}, None, "ztsnr .* without v_pred"),
        ({"v_pred": EMPTY}, {"modelspec.prediction_type": "epsilon"}, "contradict each other"),
        ({}, {"modelspec.prediction_type": "x0"}, r"modelspec\.prediction_type='x0': v or epsilon is known"),
        ({"edm_vpred.sigma_max": torch.tensor(120.0)}, None, r"edm_vpred\.sigma_max .* EDM model"),
    ],
)
def test_flags_that_cannot_be_followed_are_refused_by_the_plan(
    saved: Saved, plan: Callable[..., Any], added: Any, metadata: Any, says: str
) -> None:
    with pytest.raises(ConfigError, match=rf"model\.repo=.*flagged\.safetensors: .*{says}"):
        plan(saved.write(added, metadata))


def test_a_scheduler_without_the_setting_is_refused(saved: Saved, tmp_path: Path) -> None:
    from diffusers import PNDMScheduler

    other = Saved(tmp_path)
    other.pipe.scheduler = PNDMScheduler.from_config(other.pipe.scheduler.config)
    other.pipe.save_pretrained(tmp_path)
    with pytest.raises(RunError, match=r"v_pred and ztsnr sets rescale_betas_zero_snr, which PNDMScheduler does not"):
        other.load(other.write({"v_pred": EMPTY, "ztsnr": EMPTY}))
