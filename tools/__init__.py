"""What only maintainers run: builders, evidence and the writers of docs tables; not in the wheel."""
