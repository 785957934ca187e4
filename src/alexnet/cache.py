"""Where Stores, features, downloads and weights are kept. Imports no torch."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Where Stores and downloads are kept: $ALEXNET_CACHE, or the user's cache folder."""
    chosen = os.environ.get("ALEXNET_CACHE")
    return (
        Path(chosen).expanduser()
        if chosen
        else platformdirs.user_cache_path("alexnet", appauthor=False)
    )
