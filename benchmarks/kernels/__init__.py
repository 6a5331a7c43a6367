"""Speed and error of ``osa::attention`` beside its peers."""
