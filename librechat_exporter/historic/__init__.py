"""The historic export: daily, weekly and monthly aggregates, copied from LibreChat's MongoDB into MariaDB."""
