"""Tiny pipelines, built or saved once: they are deterministic, and tests leave them as they found them."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models.tiny_families import tiny
from tests.models.tiny_flux import tiny_config
from wavespeed_runner.config.schema import Guidance
from wavespeed_runner.models.families.flux import FLUX
from wavespeed_runner.models.weights.pretrained import load

WIDTH_OF_FLUX = 3072
"""What diffusers' converter takes the width of every FLUX for."""


@pytest.fixture(scope="session")
def tiny_pipes():
    """Guidance -> (pipe, its config)."""
    configs = {guidance: tiny_config(guidance) for guidance in Guidance}
    return {guidance: (load(FLUX, config, "cpu"), config) for guidance, config in configs.items()}


@pytest.fixture(scope="session")
def tiny_folder(tiny_pipes, tmp_path_factory):
    """The embedded one as `save_pretrained` leaves it."""
    folder = tmp_path_factory.mktemp("tiny") / "flux"
    tiny_pipes[Guidance.embedded][0].save_pretrained(folder)
    return folder


@pytest.fixture
def narrow_flux(monkeypatch: pytest.MonkeyPatch) -> None:
    """The converter of diffusers, for a FLUX as wide as the tiny one."""
    from diffusers.loaders import single_file_model, single_file_utils

    function = single_file_utils.convert_flux_transformer_checkpoint_to_diffusers
    code = function.__code__
    width = tiny("flux")[2].transformer.inner_dim
    assert WIDTH_OF_FLUX in code.co_consts
    narrow = code.replace(co_consts=tuple(width if value == WIDTH_OF_FLUX else value for value in code.co_consts))
    converters = single_file_model.SINGLE_FILE_LOADABLE_CLASSES["FluxTransformer2DModel"]
    monkeypatch.setitem(converters, "checkpoint_mapping_fn", types.FunctionType(narrow, function.__globals__))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name of a model -> the folder that its tiny pipeline was saved to."""
    saved: dict[str, Path] = {}

    def save(name: str) -> Path:
        if name not in saved:
            saved[name] = tmp_path_factory.mktemp(name)
            tiny(name)[2].save_pretrained(saved[name])
        return saved[name]

    return save
