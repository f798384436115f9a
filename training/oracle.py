"""Judge an image against its caption with plain image analysis: the reader of the metric `scene`.

verdict = judge(image, "a red circle above a blue square")
verdict.right, verdict.problems
"""

from wavespeed_runner.judges.scene_reader import FOREGROUND, Found, Verdict, find_objects
from wavespeed_runner.judges.scene_reader import read_scene as judge

__all__ = ["FOREGROUND", "Found", "Verdict", "find_objects", "judge"]
