"""Greatest slope of a program in a domain, searched without enumerating all regions."""
