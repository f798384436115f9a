"""What ranks send each other comes back as it was; only data can be sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.execution.rank_stages import Does, SumOptions
from wavespeed_runner.artifacts import Embeddings, Images, Sample
from wavespeed_runner.execution.ranks.messages import Kept, decode, encode


def sent(message: dict[str, Any]) -> dict[str, Any]:
    return decode(encode(message), {"key": "the model"}.__getitem__)


def test_options_and_plain_data_come_back_with_their_types() -> None:
    message = {
        "options": SumOptions(does=Does.fails, numbers={"a": (0.1, float("inf")), "b": ()}),
        "nested": [{"enum": 1, "list": None}, {2: (True, "x")}],
        "sample": Sample(prompt="a \0 “circle”", seed=2**62),
    }
    back = sent(message)
    assert back == message and isinstance(back["nested"][1][2], tuple)


def test_values_come_back_bit_for_bit_and_a_model_is_named_by_its_key() -> None:
    words, image = torch.randn(2, 3).to(torch.bfloat16).T, np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    values = [Embeddings(tensors={"words": words}, data={"n": 1}), Images(tensors={"images": image})]
    back = sent({"inputs": [{"words": values[0], "image": values[1], "pipeline": Kept(key="key")}]})["inputs"][0]
    assert torch.equal(back["words"].tensors["words"], words) and back["words"].data == {"n": 1}
    assert type(back["image"]) is Images and (back["image"].tensors["images"] == image).all()
    assert back["pipeline"] == "the model"


@pytest.mark.parametrize("value", [object(), torch.ones(1), SumOptions, b"bytes", {1, 2}])
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be sent to another rank"):
        encode({"inputs": [value]})


def test_a_message_names_only_classes_of_data() -> None:
    ours, other = b"tests.execution.rank_stages:SumOptions", b"subprocess:Popen"
    raw = encode({"options": SumOptions()}).replace(ours, other)
    length = int.from_bytes(raw[:8], "little") - len(ours) + len(other)
    with pytest.raises(TypeError, match="subprocess:Popen is not data"):
        decode(length.to_bytes(8, "little") + raw[8:], str)
