"""Counters that never lie: what happened is counted once and stays counted."""

from librechat_exporter.ledger.ledger import Ledger

__all__ = ["Ledger"]
