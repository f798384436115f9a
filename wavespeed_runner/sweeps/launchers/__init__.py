"""Where the jobs of a sweep run: in this process, in a process each, on Slurm."""
