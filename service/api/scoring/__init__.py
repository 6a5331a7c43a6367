"""What routes of models with a head share: scores, and the ranking of texts."""
