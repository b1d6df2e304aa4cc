"""The port: what it withstands, whom it lets in, what it answers."""
