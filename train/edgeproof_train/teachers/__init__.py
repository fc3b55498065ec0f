"""The kinds of teacher, one file each: source, format and what is frozen stand in each module."""
