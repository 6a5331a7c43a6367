"""Parts of the commands: argument parsing, settings as options, checks before importing torch."""
