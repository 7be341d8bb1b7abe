"""Real servers for tests: installed from packages, started once, stopped when nobody is left."""
