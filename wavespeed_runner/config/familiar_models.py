"""Words of other tools whose answer depends on the model: `cfg`, `denoise`, `weight_dtype`. For messages alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from math import ceil

from .. import registry
from .familiar_names import KEYS
from .paths import CONF
from .suggestions import choose_accepted, find_given, knows_command

Describe = Callable[[list[str], str], str]
"""(overrides, why they are refused or empty) -> what is said of them."""

TRUE_GUIDANCE = ("cfg", "cfg_scale")
"""Words for classifier-free guidance, also where a model has another scale as an input."""
FLUX_GUIDANCE = " (ComfyUI's FluxGuidance is guidance_scale)"
WORKED_OUT = " (ComfyUI runs all its steps, the last {steps} of {whole}; here strength is the part of them that runs)"
DIGITS = range(3, 8)
"""Of a strength, as few as do."""
MOST_STEPS = 10**6
"""Far more than any run has; of longer schedules no numbers are told."""


@dataclass(frozen=True, kw_only=True)
class ChosenModel:
    """What the shipped option of a model says of it."""

    guidance: str
    """A value of `model.guidance`."""
    is_flow: bool
    """Whether it is a flow model, whose pipelines round the steps of a strength up."""
    has_true_scale: bool
    """Whether it has the key `true_cfg_scale`: a second scale, beside the one that is an input."""


def find_chosen_model() -> ChosenModel | None:
    """The model of the command line; None for one that is not shipped, or that a file may choose."""
    name = find_given("model")
    if not name and knows_command() and not find_given("experiment") and not find_given("from"):
        name = _find("- model: ", (CONF / "config.yaml").read_text("utf-8"))
    file = CONF / "model" / f"{name}.yaml"
    if not re.fullmatch(r"\w+", name) or not file.is_file():
        return None
    text = file.read_text("utf-8")
    entry = registry.lookup("model", _find("- /schema/model/", text))
    guidance = find_given("model.guidance") or _find("^guidance: ", text)
    return ChosenModel(
        guidance=guidance,
        is_flow=entry.implementation.schedule == "flow",
        has_true_scale=any(field.name == "true_cfg_scale" for field in fields(entry.options)),
    )


def _find(before: str, text: str) -> str:
    """The word that comes after some others."""
    found = re.search(rf"{before}(\w+)", text, re.MULTILINE)
    return found[1] if found else ""


def explain_model_word(key: str, value: str, typed: str, describe: Describe) -> str:
    """How a word is written for the chosen model; empty where it is what it is for every model, or is not known.

    Args:
        key: as typed.
        value: as typed, or a word that stands for it.
        typed: the override as typed; empty for a key in a file.
        describe: what to say of a way, and why it is refused, if it is.
    """
    if key == "weight_dtype" and value.lower() == "default":  # ComfyUI's, of a file that is loaded
        return "leave it out: the model's own is taken"
    if KEYS.get(key) == "steps" and (found := _count_there(find_given("denoise"))):
        return f"with denoise it is steps={found[1]}"
    if key in TRUE_GUIDANCE:
        return _explain_guidance(value, typed, describe)
    return _explain_denoise(value, typed, describe) if key == "denoise" else ""


def _explain_guidance(value: str, typed: str, describe: Describe) -> str:
    """What ComfyUI's cfg is on a model that takes a scale as an input; empty for other models."""
    model = find_chosen_model()
    if model is None or model.guidance != "embedded":
        return ""
    why = "on this model cfg is true classifier-free guidance"
    if (scale := _read_number(value)) is not None and scale <= 1:
        return f"leave it out: {why}, and 1 is off{FLUX_GUIDANCE}"
    if not model.has_true_scale:
        return f"leave it out: {why}, which is not supported with it{FLUX_GUIDANCE}"
    way, refusal = choose_accepted(typed, [[f"model.true_cfg_scale={value}"]])
    negative = [] if find_given("negative_prompt") else ["negative_prompt=TEXT"]
    return f"{describe([*way, *negative], refusal)}: {why}, and 1, which is off, is left out{FLUX_GUIDANCE}"


def _explain_denoise(value: str, typed: str, describe: Describe) -> str:
    """The steps and the strength that run what ComfyUI runs; empty where its steps or the model are not known."""
    if (_read_number(value) or 0) >= 1:
        way, refusal = choose_accepted(typed, [["strength=1"]])
        return "leave it out: at 1 all steps run, from noise" if refusal else describe(way, "")
    if not (found := _count_there(value)):
        return ""
    steps, whole, is_flow = found
    ours = [f"steps={whole}", f"strength={work_out_strength(steps, whole, is_flow=is_flow)}"]
    return describe(*choose_accepted(typed, [ours])) + WORKED_OUT.format(steps=steps, whole=whole)


def _count_there(denoise: str) -> tuple[int, int, bool] | None:
    """Steps that ComfyUI runs at a `denoise` below 1, those of its schedule, and whether the model is a flow model.

    None where the command does not say the steps, the model is not known, or the schedule is too long for any run.
    """
    part, model = _read_number(denoise), find_chosen_model()
    words = ("steps", *(word for word, ours in KEYS.items() if ours == "steps"))
    steps = next((given for word in words if (given := find_given(word))), "")
    if part is None or not 0 < part < 1 or model is None or not steps.isdecimal():
        return None
    # By its length first: a number of hundreds of digits is none that can be divided.
    if len(steps) > len(str(MOST_STEPS)) or not 0 < int(steps) / part <= MOST_STEPS:
        return None
    return int(steps), int(int(steps) / part), model.is_flow


def work_out_strength(steps: int, whole: int, *, is_flow: bool) -> str:
    """The strength at which the last `steps` of `whole` steps run.

    diffusers' pipelines of flow models round what runs up, the others down. So it is the quotient, rounded a little to
    the other side.

    Args:
        steps: that are to run, 1 or more.
        whole: of the schedule, as many or more.
        is_flow: of the model.
    """
    for digits in DIGITS:
        exact, unit = steps * 10**digits, -1 if is_flow else 1
        nearest = exact // whole if is_flow else -(-exact // whole)
        for scaled in (nearest, nearest + unit):
            strength = scaled / 10**digits
            if 0 < strength <= 1 and _count_run(whole, strength, is_flow=is_flow) == {steps}:
                return f"{strength:.{digits}f}".rstrip("0").rstrip(".")
    return f"{steps / whole:g}"


def _count_run(whole: int, strength: float, *, is_flow: bool) -> set[int]:
    """How many steps run: by the two ways of writing the same that floating-point numbers may tell apart."""
    kept = min(whole * strength, whole)
    return {ceil(kept), whole - int(max(whole - kept, 0))} if is_flow else {int(kept)}


def _read_number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None
