"""Read fitted models of scikit-learn as networks: `way_in` reads an estimator and compares the network with it.

`preprocessing` follows columns through the steps of a pipeline, as affine functions held by a `ColumnTable`.
`predictors` reads the final predictor, and `assembly` builds the `nn.Module`. Estimators are recognised by their class
names and attributes, so scikit-learn is needed only where an estimator exists.
"""
