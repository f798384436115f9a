"""The example of a web service: it answers with the runner's pixels, and refuses what does not fit."""

from __future__ import annotations

import io
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.api.conftest import PROMPT, Images, hash_pil
from tests.api.test_load import SMALL

pytest.importorskip("uvicorn")
testclient = pytest.importorskip("starlette.testclient")

FILE = Path(__file__).parents[2] / "examples" / "web_service.py"


@pytest.fixture(scope="module")
def client() -> Any:
    spec = spec_from_file_location("web_service", FILE)
    assert spec and spec.loader
    service = module_from_spec(spec)
    spec.loader.exec_module(service)
    return testclient.TestClient(service.build_app(lambda: service.load_from([*SMALL, "cache=fbcache"])))


def test_a_request_gets_the_runners_image(client: Any, runner_images: Images) -> None:
    answer = client.post("/images", json={"prompt": PROMPT, "seed": 3, "width": 64})
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(answer.content))
    wide = [override for override in SMALL if not override.startswith("width")]
    assert [hash_pil(image)] == runner_images(*wide, "width=64", "cache=fbcache", "seed=3")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"prompt": PROMPT, "steps": 0}, "steps=0: at least 1"),
        (
            {"prompt": PROMPT, "steps": 201},
            "denoising steps of 1 x steps: 201, and limits.steps=200; ask for less; the",
        ),
        ({"prompt": PROMPT, "width": 8192, "height": 8192}, "steps x width x height"),
        ({"prompt": PROMPT, "width": 2048, "height": 2048, "steps": 1}, "limits.pixels"),
        ({"prompt": PROMPT, "width": 1024, "height": 1024, "steps": 51}, "steps x width x height is 53477376, and at"),
        ({"prompt": PROMPT, "width": "1024"}, "width=1024: a whole number is needed"),
        ({"prompt": "a", "seed": {}}, "seed"),
        ({"prompt": ["a", "b"]}, "prompt: one text is needed"),
        ({"prompt": ""}, "none of them empty"),
        ({"prompt": PROMPT, "image": "/etc/passwd"}, "give a prompt"),
        ({"seed": 1}, "give a prompt"),
        (["a"], "give a prompt"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(client: Any, body: Any, words: str) -> None:
    answer = client.post("/images", json=body)
    assert answer.status_code == 400 and words in answer.json()["error"]


def test_a_body_that_is_no_json_is_refused(client: Any) -> None:
    assert client.post("/images", content=b"\xff{").status_code == 400


@pytest.mark.parametrize("part", ["[", '{"a":'])
def test_a_body_of_lists_in_lists_is_refused(client: Any, part: str) -> None:
    for times in (900, 5000):
        assert client.post("/images", content=part * times).status_code == 400
    end = "]" if part == "[" else "}"
    nested = f'{{"prompt": "a", "seed": {part * 300}{end * 300}}}'.replace(":}", ":1}")
    assert client.post("/images", content=nested).status_code == 400


def test_half_of_a_character_and_a_number_without_end_are_refused(client: Any) -> None:
    for body in (
        '{"prompt": "\\ud800"}',
        f'{{"prompt": "a", "seed": {"1" * 4000}}}',
        f'{{"prompt": "a", "seed": {"1" * 9000}}}',
    ):
        answer = client.post("/images", content=body)
        assert answer.status_code == 400, answer.text


def test_a_large_body_is_not_read(client: Any) -> None:
    assert client.post("/images", content=b" " * 2**17).status_code == 413
    assert client.post("/images", content=b'{"prompt": ""}' + b" " * 2**15).status_code == 400
