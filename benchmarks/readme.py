"""Makes the README's image and tables: runs its two main commands and puts what they print between its markers.

    python -m benchmarks.readme

The tables are what the commands printed on the machine that they name; the image goes to docs/demo.png.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .marked import write_marked

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "demo": ["cache=fbcache"],
    "accelerated": ["cache=fbcache", "quant=int8_dq", "compile=regional"],
}
"""Name of the markers -> overrides."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    from wavespeed_runner.config.environment import read_device_name

    readme = ROOT / "README.md"
    for name, overrides in COMMANDS.items():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "wavespeed_runner", *overrides, f"outputs={folder}"]
            printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
            if name == "demo":
                (ROOT / "docs").mkdir(exist_ok=True)
                shutil.copy(next(Path(folder).glob("runs/*/*/overview.png")), ROOT / "docs" / "demo.png")
        table = printed.partition("images and record")[0].strip()
        typed = f"python -m wavespeed_runner {' '.join(overrides)}"
        text = f"On {read_device_name('cpu')}, `{typed}` printed:\n\n```\n{table}\n```\n"
        write_marked(readme, name, text)


if __name__ == "__main__":
    main()
