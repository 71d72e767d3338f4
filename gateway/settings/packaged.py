"""Where the shipped configuration lies: inside the installed wheel, or in `config/` of a checkout.

The wheel carries `config/` as package data (`gateway/_config`, see pyproject.toml); an editable install reads
the checkout's own folder. A data table missing in an operator's folder is read from here.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def packaged_config_dir() -> Path:
    """Return the folder of the configuration this version ships with.

    Raises:
        FileNotFoundError: the installation is incomplete (neither package data nor a checkout).
    """
    for candidate in (_PACKAGE / "_config", _PACKAGE.parent / "config"):
        if (candidate / "gateway.toml").is_file():
            return candidate
    raise FileNotFoundError("this installation carries no shipped configuration (gateway/_config)")
