"""What developers run: private servers, the demo, the generated documents."""
