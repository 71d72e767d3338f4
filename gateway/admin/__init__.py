"""The admin listener: health, metrics and the operator's API, apart from the path and behind a token."""
