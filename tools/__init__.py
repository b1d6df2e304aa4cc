"""Development: private servers, the demo, the generated documents, simulated traffic."""
