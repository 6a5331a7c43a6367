"""Reading users' files record by record, with the place of every bad one. No torch."""
