"""Finds numbers for a model: calibration, and a search over schedules."""
