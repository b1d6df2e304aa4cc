"""Counters that never lie: what happened is counted once and stays counted."""

from librechat_exporter.ledger.ledger import POLL_SECONDS, Ledger

__all__ = ["POLL_SECONDS", "Ledger"]
