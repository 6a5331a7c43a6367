"""HTTP: what every protocol shares, and a folder for each protocol."""
