"""Which layers lose what by INT8, and which of them a budget gives back to float."""
