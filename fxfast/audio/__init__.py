"""Sound in and out: strict files, test signals, resampling."""
