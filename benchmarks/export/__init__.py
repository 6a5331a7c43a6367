"""Speed of exported artifacts."""
