"""Where weights come from: hub, folder, single file, or seeded random numbers."""
