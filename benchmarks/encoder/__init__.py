"""How fast an encoder is, beside the same encoder with softmax attention."""
