"""What a person reads of a run: the console table, the contact sheet. It is made from records and images alone."""
