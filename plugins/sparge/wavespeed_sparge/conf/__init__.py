"""Configs of this plugin. Hydra finds them as `pkg://wavespeed_sparge.conf`, which takes this file."""
