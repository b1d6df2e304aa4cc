"""Prometheus exporter for LibreChat."""

__version__ = "0.2.0"
