"""What mixers sum over tokens, so that a sequence may come in chunks."""
