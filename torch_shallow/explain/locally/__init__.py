"""One input looked at: its region, its local linear model, what would change first; and the rules of a region."""
