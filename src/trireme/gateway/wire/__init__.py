"""What clients speak: one file for each wire format, pure translation from and to the neutral form."""
