"""The frame of the pages that stand without scripts: style, policy, and the script of the buttons that copy."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ... import __version__
from .breaks import breakable, by_words
from .clean import clean_value

if TYPE_CHECKING:
    from jinja2 import Template

STYLES = ("tables.css", "page.css")
"""In the order in which the later one wins."""
FRAME = "static.html.j2"


def render(package: str, name: str, **values: Any) -> str:
    """Renders a page: one file, which needs no network and no server.

    Args:
        package: of the template, `wavespeed_runner.tune`.
        name: of the template, which extends `static.html.j2`; everything is escaped.
        values: for the template.
    """
    script = read_asset(__package__, "copy.js") + "startCopying();\n"
    return _template(package, name).render(
        style="\n".join(read_asset(__package__, file) for file in STYLES),
        script=script,
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=__version__,
        **values,
    )


@lru_cache
def read_asset(package: str, name: str) -> str:
    """A file of this package."""
    return (files(package) / name).read_text(encoding="utf-8")


@lru_cache
def _template(package: str, name: str) -> Template:
    from jinja2 import DictLoader, Environment

    own = {file.name: read_asset(package, file.name) for file in files(package).iterdir() if file.name.endswith(".j2")}
    environment = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=clean_value,
        loader=DictLoader({**own, FRAME: read_asset(__package__, FRAME)}),
    )
    environment.filters |= {"breakable": breakable, "by_words": by_words}
    return environment.get_template(name)
