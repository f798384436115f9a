"""The JSON schema of record.json, generated from the types of `record.py` and `sample.py` and their docstrings."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from . import record, sample
from .record import SCHEMA_VERSION, Record

SCHEMA_FILE = Path(__file__).parents[2] / "docs" / "record.schema.json"
"""In a checkout."""


def schema_text() -> str:
    """Returns the content of `docs/record.schema.json`."""
    about = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"record.json of wavespeed_runner, schema version {SCHEMA_VERSION}",
    }
    schema = {**about, **msgspec.json.schema(Record)}
    for name, descriptions in _field_docstrings().items():
        for field, description in descriptions.items():
            _describe(schema["$defs"], name, field, description)
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def write_schema() -> None:
    """Writes `docs/record.schema.json` in a checkout."""
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")


def _describe(definitions: dict[str, Any], name: str, field: str, description: str) -> None:
    if field in definitions.get(name, {}).get("properties", {}):
        definitions[name]["properties"][field]["description"] = description


def _field_docstrings() -> dict[str, dict[str, str]]:
    """Class -> field -> the string below it, which Python itself does not keep."""
    code = [*ast.parse(inspect.getsource(record)).body, *ast.parse(inspect.getsource(sample)).body]
    classes = [node for node in code if isinstance(node, ast.ClassDef)]
    return {
        node.name: {
            field.target.id: inspect.cleandoc(text.value.value).replace("\n", " ")
            for field, text in zip(node.body, node.body[1:], strict=False)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        }
        for node in classes
    }
