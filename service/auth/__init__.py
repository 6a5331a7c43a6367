"""API keys, their quotas, and which paths need one."""
