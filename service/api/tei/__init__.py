"""text-embeddings-inference's routes, and ours beside them."""
