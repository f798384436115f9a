"""Many jobs in one command: points, folders, resume, launchers."""
