"""What every command shares: stop signals, logging, closed pipes, and the exit status."""
