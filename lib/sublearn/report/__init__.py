"""What a notebook shows: figures, tables, recorded numbers."""
