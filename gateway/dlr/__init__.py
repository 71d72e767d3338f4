"""What came of a message: receipts read, matched to their message and recorded."""
