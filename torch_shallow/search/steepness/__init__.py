"""How steep a program is at most: the greatest slope of a domain, searched without looking at all regions."""
