"""A small sound configuration folder for tests, and ways to spoil it."""

from __future__ import annotations

from pathlib import Path

GATEWAY = """
[store]
data_dir = "var"
[api]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
token = "${env:TOKEN}"
"""

CHANNELS = """
[[channel]]
id = "a"
host = "127.0.0.1"
port = 2775
system_id = "esme"
password = "${env:A_PASSWORD}"

[[channel]]
id = "b"
host = "127.0.0.1"
port = 2776
system_id = "esme"
password = "${env:B_PASSWORD}"
"""

ROUTES = """
[[route]]
id = "cn"
match = { country = "CN" }
channels = [{ id = "a", rank = 0 }, { id = "b", rank = 1 }]
"""

ACCOUNTS = """
[[account]]
id = "shop"
key_hashes = ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]
"""

ENV = {"A_PASSWORD": "pa", "B_PASSWORD": "pb", "TOKEN": "a-token-of-the-tests"}

FILES = {"gateway": GATEWAY, "channels": CHANNELS, "routes": ROUTES, "accounts": ACCOUNTS}


def write_config(folder: Path, **files: str) -> Path:
    """Write the four files to `folder`; keyword arguments (`channels="…"`) replace a whole file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {**FILES, **files}.items():
        (folder / f"{name}.toml").write_text(content, encoding="utf-8")
    return folder
