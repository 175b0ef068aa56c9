"""Functions as an `nn.Module`: `ShallowReLU` and `VisitedReLU`, and what can be made of them.

`network` is what all modules have in common, `region_network` what those of known regions have; `shallow_relu` has a
tree of cuts, and `visited_relu` is made from data. `files` save and load them; `soft_relu` and `continuity` are for
training; `merging` and `literal` give other forms.
"""
