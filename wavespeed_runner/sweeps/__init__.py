"""Sweeps: which jobs there are (`jobs`, `points`), where they land (`folder`), and what runs them."""
