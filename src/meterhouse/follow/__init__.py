"""Following folders: what is delivered is in the answers within a second."""
