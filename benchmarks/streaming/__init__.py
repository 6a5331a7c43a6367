"""Documents of any length: memory and time by length, beside short requests, over processes."""
