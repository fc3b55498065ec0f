"""`evaluate`: a student scored by every metric that fits the data, with tables of what it got wrong."""
