"""Fitted models of scikit-learn as networks: `way_in` reads an estimator and compares the network with it.

`preprocessing` follows columns through the steps of a pipeline, as affine functions that a `ColumnTable` holds,
`predictors` reads what predicts, and `assembly` makes the `nn.Module`. An estimator is known by the name of its class
and by its attributes, so that scikit-learn is needed only where there is one.
"""
