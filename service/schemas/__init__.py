"""Request and response bodies, and how they are read strictly."""
