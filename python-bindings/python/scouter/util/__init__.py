"""Names that Scouter keeps here."""

from __future__ import annotations

from scouter.queue import FeatureMixin, convert_to_features

__all__ = ["FeatureMixin", "convert_to_features"]
