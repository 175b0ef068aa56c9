"""Define the networks that `transform` returns, `ShallowReLU` and `VisitedReLU`, and what can be made from them.

`network` has what all modules share, and `region_network` what networks of known regions share. `shallow_relu` has a
tree of cuts, and `visited_relu` is built from data. `files` saves and loads networks; `soft_relu` and `continuity`
serve training; `merging` and `literal` convert networks into other forms.
"""
