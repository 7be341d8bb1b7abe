"""Serving: merged gold rows by key, and the six questions answered from them."""
