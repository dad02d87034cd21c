"""What a person may ask of a registration: every option with its unit, range, default and help, said once, here."""
