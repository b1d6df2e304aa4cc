"""Prometheus exporter for LibreChat."""

__version__ = "0.1.0"
