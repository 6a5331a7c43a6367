"""Cohere's and Jina's reranking API."""
