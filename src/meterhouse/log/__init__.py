"""The log: the only truth. Everything else is a view of it that can be made anew."""
