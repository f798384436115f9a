"""Finds the fastest setting of a model under a quality that a user accepts, or the best one within a time."""
