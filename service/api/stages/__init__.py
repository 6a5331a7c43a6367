"""What the stages of a request share: threads, waiting, the size of answers."""
