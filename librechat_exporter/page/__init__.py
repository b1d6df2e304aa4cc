"""The page for people at `/`: what the ledger has counted by the hour and by the day, and how the exporter is doing."""
