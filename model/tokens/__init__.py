"""Parts of tokenising: special tokens in texts, pairs of texts."""
