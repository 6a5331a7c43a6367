"""What the commands share: argument parsing, settings as options, checks before torch."""
