"""HTTP routes: read the body, call the use case, write the answer. No numerics, no queueing."""
