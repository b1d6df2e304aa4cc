"""LibreChat's database: what its documents mean, what is asked of it, and what it answers."""
