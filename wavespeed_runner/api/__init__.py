"""Settings in a program of one's own: `load` makes a pipeline of them, `accelerate` applies them to one."""
