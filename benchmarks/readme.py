"""Makes the README's image and table: runs the main job and puts its table between the README's markers.

    python -m benchmarks.readme

The table is what the command printed on the machine that it names; the image goes to docs/demo.png.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(<!-- demo -->\n).*?(<!-- /demo -->)", re.DOTALL)


def main() -> None:
    from wavespeed_runner.config.environment import read_device_name

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "wavespeed_runner", "cache=fbcache", f"outputs={folder}"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
        (ROOT / "docs").mkdir(exist_ok=True)
        shutil.copy(next(Path(folder).glob("runs/*/*/overview.png")), ROOT / "docs" / "demo.png")
    table = printed.partition("images and record")[0].strip()
    text = f"On {read_device_name('cpu')}, `python -m wavespeed_runner cache=fbcache` printed:\n\n```\n{table}\n```\n"
    readme = ROOT / "README.md"
    readme.write_text(BLOCK.sub(lambda m: m[1] + text + m[2], readme.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
