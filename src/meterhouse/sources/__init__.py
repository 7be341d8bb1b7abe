"""Where bytes come from: each module brings one kind of delivery to the log."""
