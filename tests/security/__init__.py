"""What strangers may send, and what they must not get."""
