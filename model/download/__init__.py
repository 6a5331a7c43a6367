"""Models of the Hugging Face hub: downloaded when asked for, recorded, and served by the record."""
