"""Shares a measured run as an experiment file, and verifies on replay whether its claimed figures are reproduced."""
