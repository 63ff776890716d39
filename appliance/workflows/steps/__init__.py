"""What one job does: its action, the inputs and outputs it is given, and what runs where."""
