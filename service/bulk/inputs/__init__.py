"""What is read: files of every format, and the columns that they share."""
