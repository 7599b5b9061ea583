"""Many recordings into a table: what to label, how, and where the rows go; here, or on a cluster."""
