"""Any number or list of a folder's configurations replaced: the folder is refused in one line, or it loads."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.models.test_every_model import config_of
from wavespeed_runner.config.schema import Init
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.weights.pretrained import load, try_local_folder
from wavespeed_runner.registry import find_implementation

MODELS = ("sd15", "flux", "qwen_image", "lumina2")
VALUES = st.one_of(
    st.sampled_from([0, -1, 1, 3, 1000, 65536, 2**20, 2**31, None, True, "evil", 0.5, -0.5, float("nan"), [], {}]),
    st.lists(st.sampled_from([0, 1, 2, 64, 1000, 2**20]), min_size=1, max_size=40),
    st.just([1000] * 1000),
)


@pytest.fixture(scope="module", params=MODELS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(family, config, folder)."""
    config = config_of(request.param)
    family = find_implementation("model", config)
    folder = tmp_path_factory.mktemp(request.param)
    load(family, config, "cpu").save_pretrained(folder / "saved")
    config.init, config.repo = Init.pretrained, str(folder / "mutated")
    return family, config, folder


def list_places(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, key) of each value that is no text."""
    for file in sorted(folder.glob("*/*config.json")):
        for key, value in sorted(json.loads(file.read_text()).items()):
            if not key.startswith("_") and not isinstance(value, str):
                yield file.relative_to(folder).as_posix(), key


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_folder_is_refused_or_loads(
    saved: Any, data: st.DataObject, capfd: pytest.CaptureFixture[str]
) -> None:
    family, config, folder = saved
    shutil.rmtree(folder / "mutated", ignore_errors=True)
    shutil.copytree(folder / "saved", folder / "mutated")
    for file, key in data.draw(st.lists(st.sampled_from(list(list_places(folder / "saved"))), min_size=1, max_size=2)):
        place = folder / "mutated" / file
        place.write_text(json.dumps(json.loads(place.read_text()) | {key: data.draw(VALUES)}))
    start = time.monotonic()
    capfd.readouterr()
    try:
        try_local_folder(family, config)
        load(family, config, "cpu")
    except (ConfigError, RunError) as error:
        assert "\n" not in str(error) and str(error).startswith("model.")
    assert "panicked" not in capfd.readouterr().err
    assert time.monotonic() - start < 60
