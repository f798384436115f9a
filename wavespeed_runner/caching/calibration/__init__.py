"""Calibration: records numbers of one model that some strategies need, stores them, and fills them into a config."""
