"""Runs a plan: the graph on demand, its outputs, the noise floor, the record."""
