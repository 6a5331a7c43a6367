"""Failed batches: split until only inputs at fault fail; memory; broken devices."""
