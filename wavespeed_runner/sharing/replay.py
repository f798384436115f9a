"""Runs an image, a video, a record, a config or an exported experiment again and says whether the result is the same.

Everything is computed again; nothing is taken from the store. The claim of an exported experiment is verified, see
`verdict.py`. The figures of a record are shown beside the new ones.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ..config import trust
from ..config.claim import ClaimConfig
from ..config.error_messages import EXPLAINED, explain
from ..errors import ConfigError, format_error, make_printable, refuse_undecodable
from ..execution.refusals import raise_refusal, refuse_unbuildable_models
from ..execution.runner import run_plan
from ..inputs.documents import refuse_many
from ..inputs.files import InputError
from ..planning.plan import Plan, build_plan
from ..process.logging_setup import log_to
from ..records.record import Record
from ..report.console import show, show_failure
from .claim_form import refuse_malformed
from .other_prompts import MET, combine_judgements, format_judgement, has_other_images, judge_claim
from .parts import CLAIM, IMAGES, NOT_REPRODUCED, PartVerdict
from .source import describe_machine, read_source
from .verdict import combine_verdicts, verify_claim
from .verdict_text import format_headline

UNAVAILABLE_ADVICE = re.compile(r"; give (?!prompts\.path=)[\w.]+=VALUE$")
"""Advice at the end of an error message that names a key which `replay` does not take."""
LIMITS = "limits."
OTHERWISE = ("attention", "metrics", "seed")
"""Typed values that are placed by functions of their own."""
CONFIG_OR_WEIGHTS = "different weights, or the config was edited"


def replay(path: Path, values: dict[str, str]) -> bool:
    """Runs what a file describes again and prints how the result compares.

    Args:
        path: an image, a video, `record.json`, `config.yaml`, or an exported experiment.
        values: key -> value from the command line: the folder of results, the device, files that are elsewhere.

    Returns:
        Whether the images are the same, or the claim holds or is met, or there was nothing to compare with.

    Raises:
        ConfigError: the file cannot be replayed.
    """
    plan, expected = build_replay_plan(path, values)
    refuse_unbuildable_models(plan)
    folder = Path(plan.config.outputs) / "runs" / f"{datetime.now():%Y-%m-%d/%H-%M-%S-%f}-replay"
    log_to(folder)
    record = run_plan(plan, folder, [f"replay={make_printable(str(path))}"])
    raise_refusal(record, folder)
    if record.status != "completed":
        show_failure(record, folder)
        return False
    show(record, folder)
    if (claim := plan.config.claim) is not None:
        if has_other_images(claim, record, other_seed=bool(expected.get("other_seed"))):
            return _print_judgement(record, claim)
        return _print_verdict(record, claim)
    same = _compare_images(record, expected, plan.fingerprint)
    _print_figures(record, expected.get("claim"))
    return same


def build_replay_plan(path: Path, values: dict[str, str]) -> tuple[Plan, dict[str, Any]]:
    """Plans the run that a file describes, without running it.

    Args:
        path: the file, which may come from a stranger.
        values: key -> value from the command line.

    Returns:
        The plan, and what the file says of the result, see `read_source`.

    Raises:
        ConfigError: whatever is wrong with the file.
    """
    for key, value in values.items():
        refuse_undecodable(f"{key}={value}", value)
    try:
        config, expected = read_source(path)
        config, prompts = _place_typed(path, config, expected, values)
        plan = build_plan(config, prompts)
        if plan.config.claim is not None:
            per_prompt = plan.config.num_images_per_prompt
            refuse_malformed(plan.config.claim, [each.prompt for each in plan.samples[::per_prompt]], per_prompt)
        return plan, expected
    except EXPLAINED as error:
        raise ConfigError(_add_file(explain(error), path, values)) from None
    except InputError as error:
        raise ConfigError(f"{path}: its config: {error}") from None
    except Exception as error:
        message = f"{type(error).__name__}: {format_error(error)}"
        raise ConfigError(f"{path}: this is not the output of a run: {message}") from error


def _place_typed(
    path: Path, config: dict[str, Any], expected: dict[str, Any], values: dict[str, str]
) -> tuple[dict[str, Any], list[str] | None]:
    """The config of the file, checked, with what was typed in it; and the prompts that a record lists."""
    config = trust.remove_places(config)
    refuse_many(config)
    prompts = expected.get("prompts")
    if prompts:
        # They are passed on as they are: what looks like an interpolation in a prompt is text.
        config = {**config, "prompt": None}
    config = _place_prompts(path, _place_seed(path, config, expected, values), prompts, values)
    config = _take_judges(_take_typed_code(config, values), values)
    # A prompt file that was read is named by the record as it was typed then; it is not read again.
    checked = {**config, "prompts": None} if prompts or config.get("prompt") is not None else config
    trust.check_files(checked, values)
    if "adapters.path" in values:
        paths = values["adapters.path"].split(",")
        config = {**config, "adapters": {**config["adapters"], "path": paths if len(paths) > 1 else paths[0]}}
    given = {key: value for key, value in values.items() if "." not in key and key not in OTHERWISE}
    # Not those of the file: they are there to bound what a file asks for.
    limits = {key.removeprefix(LIMITS): int(value) for key, value in values.items() if key.startswith(LIMITS)}
    config = {**config, "outputs": "outputs", **given, "dry_run": False, "rerun": True, "limits": limits}
    trust.check_values(config)
    return config, prompts


def _place_prompts(
    path: Path, config: dict[str, Any], prompts: list[str] | None, values: dict[str, str]
) -> dict[str, Any]:
    """The config with the prompt file that was typed."""
    file = values.get("prompts.path")
    if file is None:
        return config
    if prompts:
        raise ConfigError(f"prompts.path={file}: {path} already has its prompts; leave prompts.path out")
    return {**config, "prompt": None, "prompts": {**(config.get("prompts") or {}), "path": file, "texts": None}}


def _place_seed(path: Path, config: dict[str, Any], expected: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    """The config with the seed that was typed; `expected` notes that it is another one."""
    if "seed" not in values:
        return config
    if config.get("claim") is None:
        raise ConfigError(
            f"seed={values['seed']}: only for an experiment with a claim, to judge it; python -m wavespeed_runner "
            f"from={path} seed={values['seed']} runs the same settings with another seed"
        )
    seed = int(values["seed"])
    expected["other_seed"] = seed != config.get("seed")
    return {**config, "seed": seed}


def _take_typed_code(config: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    """The config with what was typed of options that run code, in the place of what the file says."""
    typed = {key.partition(".")[2]: value for key, value in values.items() if key.startswith("compile.")}
    if typed:
        config = {**config, "compile": {**config["compile"], **typed}}
    name = values.get("attention")
    if name is not None and config["attention"]["name"] != name:
        config = {**config, "attention": {"name": name}}
    return config


def _take_judges(config: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    """The config with the files of judges that were typed, or without judges."""
    judges: dict[str, Any] = {} if "metrics" in values else {**(config.get("metrics") or {})}
    for key, value in values.items():
        group, _, rest = key.partition(".")
        if group == "metrics" and rest:
            name, _, last = rest.partition(".")
            if not isinstance(judges.get(name), dict):
                raise ConfigError(f"{key}={value}: the file asks for no metrics.{name}; leave it out")
            judges[name] = {**judges[name], last: value}
    return {**config, "metrics": judges}


def _add_file(message: str, path: Path, values: dict[str, str]) -> str:
    """The message with the name of the file, unless it is about the command line or already names the file."""
    from_command_line = any(message.startswith(f"{key}={value}") for key, value in values.items())
    if from_command_line or str(path) in message:
        return message
    return f"{UNAVAILABLE_ADVICE.sub('', message)}; in {path}"


def _print_verdict(record: Record, claim: ClaimConfig) -> bool:
    """Prints the verdict on a claim and on each part of it; True if the claim holds."""
    parts = verify_claim(claim, record)
    print(make_printable(f"replay: {format_headline(claim, record, parts)}"))
    _print_parts(parts)
    return combine_verdicts(parts) != NOT_REPRODUCED


def _print_judgement(record: Record, claim: ClaimConfig) -> bool:
    """Prints the verdict on a claim with other prompts or seeds; True if it is met."""
    parts = judge_claim(claim, record)
    print(make_printable(f"replay: {format_judgement(claim, record, parts)}"))
    _print_parts(parts)
    return combine_judgements(parts) == MET


def _print_figures(record: Record, claim: ClaimConfig | None) -> None:
    """Prints the figures of a record beside the new ones, without verdicts: the images have given the verdict."""
    parts = verify_claim(claim, record) if claim is not None else []
    _print_parts([replace(part, verdict=None, better=False) for part in parts if part.name not in (CLAIM, IMAGES)])


def _print_parts(parts: list[PartVerdict]) -> None:
    for part in parts:
        better = ", better than claimed" if part.better else ""
        verdict = f": {part.verdict}" if part.verdict else ""
        print(f"  {part.name:16}{make_printable(part.text)}{better}{verdict}")


def _compare_images(record: Record, expected: dict[str, Any], fingerprint: str) -> bool:
    """Prints how the new images compare with the earlier ones; True if they are the same."""
    pixels = expected.get("pixels", {})
    now = {(sample.prompt, sample.seed): sample.pixels_sha256 for sample in record.samples}
    if not pixels:
        print("replay: done; there was no earlier result to compare with")
        return True
    same = sum(now.get(key) == digest for key, digest in pixels.items())
    other_fingerprint = expected.get("fingerprint") != fingerprint
    if same == len(pixels):
        same_machine = expected.get("machine") == describe_machine(record)
        note = f"; {CONFIG_OR_WEIGHTS} (the fingerprints differ)" if same_machine and other_fingerprint else ""
        print(f"replay: identical, {same} of {len(pixels)} images are the same, pixel for pixel{note}")
        return True
    why = "nothing else differs: the file was edited, or this machine does not give the same result twice"
    if other_fingerprint:
        why = _explain_fingerprint(expected, record)
    print(make_printable(f"replay: not identical, {same} of {len(pixels)} images are the same; {why}"))
    return False


def _explain_fingerprint(expected: dict[str, Any], record: Record) -> str:
    """Names what differs between the two machines, where the file says what the first one was."""
    then, now = expected.get("machine"), describe_machine(record)
    if not then:
        return "different versions, hardware or weights (the fingerprints differ)"
    changes = [f"{key} {then.get(key)} -> {value}" for key, value in now.items() if then.get(key) != value]
    if changes:
        return f"what changed: {', '.join(changes)}"
    return f"{CONFIG_OR_WEIGHTS} (the fingerprints differ)"
