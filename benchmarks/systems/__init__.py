"""Related systems as parts of one encoder: quality, cost, and their start, side by side."""
