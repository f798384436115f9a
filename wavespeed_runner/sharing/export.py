"""Exports a measured run as a small experiment file that anyone can run, with the measured figures in it as data.

The file holds only what differs from the defaults, and it is composed to check that it gives the config of the record.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..config import trust
from ..config.error_messages import EXPLAINED, explain
from ..config.lossy import lossy_names
from ..config.paths import CONF
from ..errors import ConfigError, format_error, make_printable
from ..inputs.documents import read_json, refuse_many
from ..inputs.files import InputError
from ..inputs.limits import MAX_CONFIG_BYTES
from ..planning.graph import refuse_many_stages
from ..records.config_dir import KEY, check_typed, explain_not_followed
from ..records.file import read_record
from ..records.listing import list_jobs
from ..records.names import model_name, setting_name
from ..records.record import Record
from ..storage.atomic import write_text
from .claim import build_claim
from .claim_text import describe_claim, describe_image, format_claim
from .document import format_yaml
from .export_check import refuse_linked_folder, refuse_unplannable
from .image_config import SUFFIXES, read_image_config
from .to_experiment import convert_config, convert_to_experiment

TUNED = "tune.json"
"""What `tune` leaves in its folder."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*", re.ASCII)


def build_experiment(
    run: Path, *, name: str | None = None, out: str | None = None, config_dir: str | None = None
) -> tuple[str, str]:
    """Builds the experiment file of a completed run, or of one of its images, which has no figures to claim.

    Args:
        run: the run's folder or its `record.json`; an image or a video.
        name: name of the experiment; None takes it from the file `out`, otherwise from model and setting.
        out: file to be written, which must not exist; `-` prints the experiment; None is experiment/NAME.yaml.
        config_dir: the run's `--config-dir`; None takes it from the sweep.json of the run's sweep, if there is one
            and it may be followed.

    Returns:
        The name of the experiment and the text of the file.

    Raises:
        ConfigError: the run is not completed, the name is not allowed, the file exists, the folder of configs is none
            that may be read, or the image has no config of ours in it.
    """
    if is_image(run):
        return _build_from_image(run, name, out)
    path = find_record(run)
    record, folder = read_completed_record(path), _find_config_dir(path, config_dir)
    name = name or _read_name(out) or build_name(record)
    _check_target(name, out)
    refuse_unplannable(path, record.config, record.plan.prompts)
    try:
        return name, format_experiment(record, name, folder)
    except EXPLAINED as error:
        said = explain(error)
        raise ConfigError(said if str(path) in said else make_printable(f"{path}: {said}")) from None


def is_image(path: Path) -> bool:
    """Whether a file is an image or a video, by its name."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _read_name(out: str | None) -> str:
    return Path(out).stem if out not in (None, "-") else ""


def _check_target(name: str, out: str | None) -> None:
    check_name(name)
    target = Path(out or f"experiment/{name}.yaml")
    if out is None:
        refuse_linked_folder(target)
    if out != "-" and target.exists():
        raise ConfigError(f"out={target}: the file exists; give another name=NAME or out=FILE, or remove it")


def _build_from_image(path: Path, name: str | None, out: str | None) -> tuple[str, str]:
    """Name and text of the experiment file of one image."""
    config = read_image_config(path)[0]
    try:
        refuse_many(config)
        refuse_many_stages(config)
        name = name or _read_name(out) or _join_name(model_name(config["model"]), " ".join(lossy_names(config)))
        _check_target(name, out)
        refuse_unplannable(path, config, [config["prompt"]])
        document, portable = convert_config(trust.remove_places(config), [config["prompt"]])
    except (InputError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path}: its config: {format_error(error)}") from None
    return name, _refuse_large(format_file(document, describe_image(portable, name, path)))


def write_experiment(target: Path, text: str) -> None:
    """Writes the file.

    Raises:
        RunError: the file cannot be written.
    """
    write_text(target, text, way_out="choose another place with out=FILE")


def format_experiment(record: Record, name: str, config_dir: Path | None = None) -> str:
    """Returns the text of the experiment file of a completed record.

    Args:
        record: a completed record.
        name: name of the experiment.
        config_dir: the `--config-dir` of the run, if it had one.

    Raises:
        ConfigError: no experiment file can give the run's config.
    """
    document, config = convert_to_experiment(record, config_dir)
    claim = build_claim(record)
    return _refuse_large(format_file(document, describe_claim(record, config, claim, name)) + format_claim(claim))


def format_file(document: dict[str, Any], comment: list[str]) -> str:
    """The text of an experiment file: its first line, the comment, and the content."""
    head, _, body = format_yaml(document).partition("\n")
    return "\n".join([head, *(f"# {make_printable(line)}" for line in comment), body]).rstrip() + "\n"


def _refuse_large(text: str) -> str:
    """The text. Raises ConfigError where it would be too large to be read again."""
    size = len(text.encode())
    if size > MAX_CONFIG_BYTES:
        raise ConfigError(
            f"the experiment file would have {size} bytes, and at most {MAX_CONFIG_BYTES} of one are read: a claim has "
            "a hash of each image; export a run of fewer images"
        )
    return text


def find_record(path: Path) -> Path:
    """Returns the `record.json` of a run.

    Args:
        path: the run's folder or the file itself.

    Raises:
        ConfigError: there is no record; for the folder of a sweep or of `tune`, or of a job that left none, the message
            says what to give, or why there is none.
    """
    record = path / "record.json" if path.is_dir() else path
    if not record.is_file():
        raise ConfigError(make_printable(f"{path}: {_explain_no_record(path)}"))
    return record


def _explain_no_record(path: Path) -> str:
    if (path / TUNED).is_file():
        if answers := sorted((path / "experiment").glob("*.yaml")):
            return f"this is what tune left, and its answer is an experiment with its claim already: {answers[0]}"
        return f"this is what tune left, and it has no answer; a run of it is {path / 'tuning' / '001' / '0'}"
    if (path / "sweep.json").exists() or (path / "0").is_dir():
        return f"this is a sweep; give one of its jobs, such as {path / '0'}"
    if (path.parent / "sweep.json").is_file():
        jobs = list_jobs(path.parent).jobs
        if job := next((job for job in jobs if job.folder.name == path.name), None):
            why = f": {job.reason}" if job.reason else ""
            done = next((str(other.folder) for other in jobs if other.status == "completed"), "")
            way_out = f"; a job that has completed is {done}" if done else ""
            return f"this job of the sweep is {job.status}, so there is nothing to export{way_out}{why}"
    return "no record here; give the folder of a run, or its record.json"


def read_completed_record(path: Path) -> Record:
    """Reads the record of a completed run.

    Raises:
        ConfigError: the file is not a record, the run did not finish, or it has no images.
    """
    record = read_record(path)
    if record.status != "completed":
        why = (record.error and record.error.message) or "the run did not finish"
        raise ConfigError(f"{path}: status {record.status} ({why}): only a completed run can be exported; run it again")
    if not record.samples:
        raise ConfigError(f"{path}: the record has no images, so there is nothing to claim")
    return record


def _find_config_dir(path: Path, given: str | None) -> Path | None:
    """The folder that the command line gives, otherwise the one that the run's sweep was started with."""
    if given is not None:
        return check_typed(given)
    sweep = path.absolute().parent.parent
    try:
        named = read_json(sweep / "sweep.json").get(KEY)
    except (OSError, ValueError, AttributeError):
        return None
    if named is None:
        return None
    if not isinstance(named, str):
        raise ConfigError(f"{sweep / 'sweep.json'}: {KEY}={named!s:.200}: a text is needed; give one, {KEY}=DIR")
    if reason := explain_not_followed(named, sweep):
        raise ConfigError(reason)
    return Path(named)


def build_name(record: Record) -> str:
    """Model and setting of a record, such as `demo_fbcache`."""
    return _join_name(model_name(record.config["model"]), setting_name(record))


def _join_name(model: str, setting: str) -> str:
    """Model and setting, such as `demo_fbcache`."""
    return "_".join(re.findall(r"[a-z0-9]+", f"{model} {setting or 'no cache'}".lower()))


def check_name(name: str) -> None:
    """Refuses the name of an experiment that no file can have, or that a shipped one has. Raises ConfigError."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"name={name}: letters, digits, _ and - are allowed")
    if (CONF / "experiment" / f"{name}.yaml").exists():
        raise ConfigError(
            f"name={name}: a shipped experiment has this name and would be chosen instead; give another name"
        )
