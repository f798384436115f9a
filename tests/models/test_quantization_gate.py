"""What a `quantization_config` may hold: torchao calls what its `_type` names, and names of layers are matched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.models.test_folder_gate import make_folder
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights.folder_gate import check_folder
from wavespeed_runner.models.weights.quantization_gate import explain_quantization
from wavespeed_runner.process.torchao_import import import_torchao

ROWS = {"_type": "PerRow", "_version": 1, "_data": {"dim": -1}}
INT8: dict[str, Any] = {"_type": "Int8WeightOnlyConfig", "_version": 2, "_data": {"granularity": ROWS}}
WRITES = {
    "_type": "_replace_with_custom_fn_if_matches_filter",
    "_data": {
        "model": "text",
        "filter_fn": {"_type": "torch.dtype", "_data": "get_file_path"},
        "replacement_fn": {"_type": "torch.dtype", "_data": "save"},
        "extra_args": ["written"],
    },
}
"""With torchao 0.17 and later this has torch.save write a file of that name."""


def stored(default: Any, **other: Any) -> dict[str, Any]:
    return {"quant_method": "torchao", "quant_type": {"default": default}, **other}


def test_what_torchao_writes_of_its_settings_passes() -> None:
    import_torchao()
    import torchao.quantization as theirs
    from torchao.core.config import config_to_dict

    settings = [
        theirs.Int8WeightOnlyConfig(),
        theirs.Int4WeightOnlyConfig(),
        theirs.Int8DynamicActivationInt8WeightConfig(),
        theirs.Int8DynamicActivationIntxWeightConfig(),
        theirs.Float8WeightOnlyConfig(),
        theirs.Float8DynamicActivationFloat8WeightConfig(granularity=theirs.PerRow()),
        theirs.FqnToConfig({"layers.0.attn": theirs.Int8WeightOnlyConfig(), "_default": None}),
    ]
    for setting in settings:
        config = json.loads(json.dumps(config_to_dict(setting)))
        assert explain_quantization(stored(config, modules_to_not_convert=["proj_out", "lm-head.0"])) == ""


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (stored(WRITES), "asks for '_replace_with_custom_fn_if_matches_filter'"),
        (stored({**INT8, "_data": {"group_size": WRITES}}), "asks for '_replace_with_custom_fn"),
        (stored({**INT8, "_data": {"group_size": [{"x": WRITES}]}}), "asks for '_replace_with_custom_fn"),
        (stored({**INT8, "_type": "quantize_"}), "asks for 'quantize_'"),
        (stored({**INT8, "_type": "QuantOptimizer"}), "asks for 'QuantOptimizer'"),
        (stored({**INT8, "_type": ["PerRow"]}), "asks for \"['PerRow']\""),
        (stored({**INT8, "_data": {"group_size": {"_type": "torch.dtype", "_data": "load"}}}), "'torch.dtype load'"),
        (stored({**INT8, "_data": {"group_size": {"_type": "torch.dtype", "_data": "int_repr"}}}), "int_repr'"),
        ({"quant_method": "gguf"}, "a folder has safetensors; give a GGUF file as model.repo=FILE.gguf"),
        (stored("Int8WeightOnlyConfig"), "has no quant_type as torchao writes it"),
        (stored(INT8) | {"quant_type": "int8_weight_only"}, "has no quant_type"),
        (stored(INT8) | {"quant_type": {"default": INT8, "other": WRITES}}, "has no quant_type"),
        (stored(INT8, modules_to_not_convert=["((a*)*)*!"]), "has '((a*)*)*!'"),
        (stored({"_type": "FqnToConfig", "_data": {"fqn_to_config": {"re:(a*)*!": INT8}}}), "has 're:(a*)*!'"),
        ({"load_in_8bit": True, "llm_int8_skip_modules": ["(a|a)*!"]}, "has '(a|a)*!'"),
    ],
)
def test_what_could_run_or_match_without_end_is_refused(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    assert words in explain_quantization(config)
    folder = make_folder(tmp_path, {"quantization_config": config})
    with pytest.raises(ConfigError, match=r"^model\.repo=x: text_encoder/config\.json: quantization_config "):
        check_folder("model.repo=x", folder)
