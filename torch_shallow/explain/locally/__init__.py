"""Explanations of one input by its region, local linear model and facets; and the rules of a region."""
