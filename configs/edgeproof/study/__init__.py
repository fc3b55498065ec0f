"""Studies: one recipe with lists in place of single values, one table and one plot."""
