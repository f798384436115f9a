"""What every command shares: interrupts, logging, exit status."""
