"""From overrides to a typed Config: composing, trust, schema, and what this machine is. No torch."""
