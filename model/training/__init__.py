"""Training: corpora, teachers, objectives, the loop. Nothing but the command line imports it."""
