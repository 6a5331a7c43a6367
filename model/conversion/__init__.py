"""``osa convert``: softmax encoders made linear in length, with the vectors that they had."""
