"""smsgw: an SMS gateway. HTTP in, a durable priority queue in Redis, SMPP out, receipts on record."""

__version__ = "0.1.0"
