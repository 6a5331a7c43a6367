"""``osa tokenizer``: train a tokenizer, or convert an existing one."""
