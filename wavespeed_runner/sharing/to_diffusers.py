"""Writes a measured run as a plain Python script of torch and diffusers (and torchao) that makes the same images.

Whatever plain diffusers cannot express is refused by name. Every text of the record stands in the script as a quoted
string or in a comment of one line: a record may be a stranger's, and a script is code.
"""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

from ..config import trust
from ..config.denoise_options import DenoiseOptions
from ..config.resolve import resolve_config
from ..errors import ConfigError, make_printable
from ..models.family import CallInputs, uses_cfg
from ..models.pipeline_call import build_prompt_call
from ..models.weights.hub import get_diffusers_class
from ..planning.graph import build_graph, is_one_call
from ..process.logging_setup import quiet_libraries
from ..process.torchao_import import postpone_torchao
from ..records.file import FILE
from ..records.names import setting_name
from ..records.record import Record
from ..registry import find_implementation
from ..storage.atomic import write_text
from .export import build_name, find_record, is_image, read_completed_record
from .export_check import refuse_linked_folder, refuse_unplannable
from .script import Script, format_call, indent, to_code
from .script_cache import add_cache
from .script_model import add_model, add_sampler
from .script_settings import add_attention, add_compile, add_memory, add_quant, add_switches, refuse_groups

WAY_OUT = "from wavespeed_runner import load runs it in a program (docs/python.md)"
PACKAGES = ("torch", "diffusers", "transformers", "torchao")


def export_script(run: Path, *, name: str | None, out: str | None) -> tuple[Path | None, str]:
    """Writes the script of a completed run.

    Args:
        run: the run's folder or its `record.json`.
        name: of the script; None takes it from model and setting.
        out: file to be written, which must not exist; `-` writes none; None is NAME.py.

    Returns:
        The file (None where none is written), and the text.

    Raises:
        ConfigError: plain diffusers cannot express it, the run is not completed or is an image, or the file exists.
        RunError: the file cannot be written.
    """
    if is_image(run):
        raise ConfigError(_explain_image(run))
    path = find_record(run)
    record = read_completed_record(path)
    quiet_libraries()
    postpone_torchao()
    refuse_unplannable(path, record.config, record.plan.prompts)
    text = write_script(record)
    if out == "-":
        return None, text
    target = Path(out or f"{name or build_name(record)}.py")
    if out is None:
        refuse_linked_folder(target)
    if target.exists():
        raise ConfigError(f"out={target}: the file exists; give another name=NAME or out=FILE, or remove it")
    write_text(target, text, way_out="choose another place with out=FILE")
    return target, text


def _explain_image(image: Path) -> str:
    """Why no script is made of an image, and which folder to give: the one above its own, where that is a run's."""
    run = image.absolute().parent.parent
    way_out = f"give the run's folder, {run}" if (run / FILE).is_file() else "give the run's folder or its record.json"
    return (
        f"{image}: to=diffusers: an image has no record of which layers were quantized or which attention kernels ran, "
        f"and a script needs it; {way_out}; without to= it is written as an experiment"
    )


def write_script(record: Record) -> str:
    """The text of the script of a completed record.

    Raises:
        ConfigError: names everything that plain diffusers cannot express.
    """
    trust.check_values(record.config)
    try:
        trust.check_code(record.config)
    except ConfigError as error:
        raise ConfigError(
            f"to=diffusers: {error}; a script would run it unasked: write that line into it yourself"
        ) from None
    config = resolve_config({**record.config, "claim": None})
    graph = build_graph(config)
    script = Script(config=config, family=find_implementation("model", config.model), graph=graph)
    if not is_one_call(graph):
        kinds = ", ".join(node.stage.name for node in graph.nodes.values())
        script.refused.append(f"graph: its stages ({kinds}) are not one call of a pipeline")
    own = [name for name, stage in config.graph.stages.items() if stage.options]
    script.refused += [f"graph.stages.{name}.options: options of one stage" for name in own]
    refuse_groups(script)
    add_model(script)
    extra = add_sampler(script)
    for add in (add_switches, lambda s: add_quant(s, record), lambda s: add_attention(s, record), add_compile):
        add(script)
    add_memory(script)
    add_cache(script)
    if script.refused:
        raise ConfigError(f"to=diffusers: plain diffusers cannot express {'; nor '.join(script.refused)}; {WAY_OUT}")
    return "\n".join([*_write_head(record, script), *script.lines, "", *_write_images(script, record, extra)]) + "\n"


def _write_head(record: Record, script: Script) -> list[str]:
    versions = record.environment.versions
    known = ", ".join(f"{name} {versions[name]}" for name in PACKAGES if name in versions)
    script.use("", "torch")
    notes = [
        f"{setting_name(record)}: {len(record.samples)} images of a run, made again by plain diffusers.",
        f"The run had {known}, on {record.environment.device_name}.",
        *script.notes,
    ]
    if script.config.batch_size > 1:
        notes.append(
            f"The run denoised {script.config.batch_size} images together, and this script one at a time: it rounds "
            "otherwise."
        )
    # The encoding comes first: Python would believe another one that a text of the record names on the second line.
    return ["# coding: utf-8", *(f"# {make_printable(note)}" for note in notes), *script.format_imports(), ""]


def _write_images(script: Script, record: Record, extra: dict[str, Any]) -> list[str]:
    """The loop over prompts and seeds."""
    images = [f"    ({sample.prompt!r}, {sample.seed})," for sample in record.samples]
    named = {"prompt": "prompt", **to_code(_build_call(script) | extra)}
    named["generator"] = 'torch.Generator("cpu").manual_seed(seed)'
    call = indent(format_call("result = pipe", **named))
    if script.family.kind == "video":
        keep = [
            "    for place, frame in enumerate(result.frames[0]):",
            '        frame.save(f"{number:02}_{place:04}.png")',
        ]
    else:
        keep = ['    result.images[0].save(f"{number:02}.png")']
    return ["IMAGES = [", *images, "]", "for number, (prompt, seed) in enumerate(IMAGES):", *call, *keep]


def _build_call(script: Script) -> dict[str, Any]:
    """What the pipeline is called with, beside prompt and generator."""
    options = next(node.options for node in script.graph.nodes.values() if isinstance(node.options, DenoiseOptions))
    config, family = script.config, script.family
    accepted = signature(get_diffusers_class(next(iter(family.tasks.values()))).__call__).parameters
    inputs = CallInputs(
        steps=options.steps,
        guidance_scale=options.guidance_scale,
        generator=None,
        **{name: getattr(options, name) for name in ("width", "height", "num_frames")},
    )
    call = build_prompt_call(family, config.model, inputs, accepted)
    if "negative_prompt" in accepted and uses_cfg(config.model, config.guidance_scale, off=family.unguided_scale):
        call["negative_prompt"] = config.negative_prompt or ""
    return call | ({"output_type": "pil"} if family.kind == "video" else {})
