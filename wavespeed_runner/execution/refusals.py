"""What only the libraries can say of a model: asked before a run writes anything, or turned into a refusal after it."""

from __future__ import annotations

from pathlib import Path

from ..config.schema import ModelConfig
from ..errors import ConfigError
from ..judges.chosen import list_chosen
from ..models.weights.pretrained import try_local_folder
from ..planning.plan import Plan
from ..process.logging_setup import quiet_libraries
from ..process.torchao_import import postpone_torchao
from ..records.file import FILE
from ..records.record import Record
from ..registry import find_implementation


def refuse_unbuildable_models(plan: Plan) -> None:
    """Builds the local models of a plan on trial, unless every image is in the store already and none is loaded.

    Judges' models are built in any case: what is stored is judged too.

    Raises:
        ConfigError: a component of a folder cannot be built within bounds.
    """
    if judges := list_chosen(plan.config):
        quiet_libraries()
        postpone_torchao()
    for chosen in judges:
        chosen.metric.try_files(chosen.options, chosen.key)
    graphs = ((plan.graph, plan.keys), (plan.reference, plan.reference_keys))
    stored = all(each[graph.output] in plan.store for graph, keys in graphs if graph for each in keys)
    if stored and not plan.config.rerun:
        return
    models = [plan.config.model, *(getattr(node.options, "model", None) for node in plan.graph.nodes.values())]
    local = [model for model in models if isinstance(model, ModelConfig)]
    if local:
        quiet_libraries()
        postpone_torchao()
    for model in local:
        try_local_folder(find_implementation("model", model), model)


def is_refused(record: Record) -> bool:
    """True for a run that a `ConfigError` ended: a repository on the hub is known to be unfit only once it is here."""
    return record.error is not None and record.error.type == ConfigError.__name__


def raise_refusal(record: Record, folder: Path) -> None:
    """Raises the `ConfigError` that ended a run, if one did."""
    if is_refused(record):
        assert record.error is not None
        raise ConfigError(f"{record.error.message} (see {folder / FILE})")
