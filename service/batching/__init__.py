"""Queue, batches and the engine thread of a model. No HTTP."""
