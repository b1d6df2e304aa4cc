"""Every setting: an environment variable or a line of `.env`, typed, validated and documented in this one place."""

from librechat_exporter.settings.daemon import MONTH, Settings
from librechat_exporter.settings.export import ExportSettings
from librechat_exporter.settings.shared import LibreChatSettings, SettingsError, documented

__all__ = ["MONTH", "ExportSettings", "LibreChatSettings", "Settings", "SettingsError", "documented"]
