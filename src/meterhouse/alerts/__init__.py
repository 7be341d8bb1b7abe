"""Cost alerts: raised exactly once for a rule, key and window; delivered at least once."""
