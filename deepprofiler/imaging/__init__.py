"""Images as arrays: read, correct, segment, crop. Knows nothing of projects or networks."""
