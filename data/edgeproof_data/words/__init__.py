"""From class names, WordNet ids and tables to labels that are told apart and sentences about them."""
