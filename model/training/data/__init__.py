"""From users' files to checked, memory-mapped examples and packed batches of them."""
