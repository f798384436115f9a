"""The record of a run, figures taken from it, and the names of settings."""
