"""Fitted models of scikit-learn as networks: `way_in` reads an estimator and compares the network with it.

`preprocessing` follows columns through the steps of a pipeline, as affine functions that a `Table` holds; `predictors`
reads what predicts; `assembly` makes the `nn.Module`. Nothing here imports scikit-learn: a fitted estimator is known by
the name of its class and by its public attributes.
"""
