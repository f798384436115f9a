"""Configs of this plugin, laid out like the runner's own: `conf/<group>/<option>.yaml`.

Hydra finds them as `pkg://wavespeed_example.conf`, which takes this file.
"""
