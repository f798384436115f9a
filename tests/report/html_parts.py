"""Reads `report.html` for the tests: its scripts, data and images."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from io import BytesIO
from typing import Any

from PIL import Image

from wavespeed_runner.report.page import images as images
from wavespeed_runner.report.page import static


class Parts(HTMLParser):
    """Parses a page: scripts with their attributes, table rows, and every address a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.fetched: list[str | None] = []
        self.in_script = False
        self.policy = ""
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "script":
            self.scripts.append((given, ""))
            self.in_script = True
        if tag == "tr" and "data-row" in given:
            self.rows.append([])
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"] or ""
        self.fetched += [value for key, value in attrs if key in ("src", "srcset", "action", "poster", "background")]
        self.fetched += [given.get("href")] if tag == "link" else []

    def handle_endtag(self, tag: str) -> None:
        self.in_script &= tag != "script"

    def handle_data(self, data: str) -> None:
        if self.in_script:
            attributes, before = self.scripts.pop()
            self.scripts.append((attributes, before + data))
        elif self.rows and data.strip():
            self.rows[-1].append(data.strip())


def data_of(text: str, name: str = "data") -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def decoded(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(BytesIO(base64.b64decode(body))).convert("RGB")


def stands_alone(text: str) -> bool:
    """Whether a page without scripts of its own fetches nothing, and runs only the script that copies."""
    made = Parts(text)
    script = static.read_asset(static.__package__, "copy.js") + "startCopying();\n"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        [one for _, one in made.scripts] == [script]
        and all(str(address).startswith("data:image/webp;base64,") for address in made.fetched)
        and made.policy.startswith(
            f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src"
        )
        and "http" not in made.policy
    )


def whole_text(text: str) -> str:
    """The page without what says where its text may go on in the next line."""
    return re.sub(r'<span class="word">(.*?)</span>', r"\1", text.replace("<wbr>", ""))
