"""SMPP 3.4: octets, sessions and channels; above `channel` nobody knows the protocol."""
