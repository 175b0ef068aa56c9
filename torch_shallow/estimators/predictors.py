"""Read predictors of scikit-learn, linear and logistic models and multi-layer perceptrons, as layers of ReLUs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from torch_shallow.errors import TransformError
from torch_shallow.explain.features import scaling
from torch_shallow.program.graph.operations import names_of

Layer = tuple[Float[np.ndarray, "_ _"], Float[np.ndarray, "_"]]
"""Weight of shape `(results, inputs)`, and bias; each layer has its own sizes."""

PERCEPTRONS = frozenset({"MLPClassifier", "MLPRegressor"})
LOGISTIC = frozenset({"LogisticRegression", "LogisticRegressionCV"})
LINEAR_CLASSIFIERS = LOGISTIC | names_of(
    "LinearSVC PassiveAggressiveClassifier Perceptron RidgeClassifier RidgeClassifierCV SGDClassifier"
)
LINEAR_REGRESSORS = names_of(
    """
        ARDRegression BayesianRidge ElasticNet ElasticNetCV HuberRegressor Lars LarsCV Lasso LassoCV LassoLars
        LassoLarsCV LassoLarsIC LinearRegression LinearSVR MultiTaskElasticNet MultiTaskElasticNetCV MultiTaskLasso
        MultiTaskLassoCV OrthogonalMatchingPursuit OrthogonalMatchingPursuitCV PassiveAggressiveRegressor
        QuantileRegressor Ridge RidgeCV SGDRegressor TheilSenRegressor
    """
)
LOG_LINEAR_REGRESSORS = frozenset({"GammaRegressor", "PoissonRegressor"})
NOT_READ = "is not supported as a predictor"
READ = PERCEPTRONS | LINEAR_CLASSIFIERS | LINEAR_REGRESSORS | LOG_LINEAR_REGRESSORS


class OneVersusRest(nn.Module):
    """Compute probabilities of classes in a one-versus-rest model: sigmoids, divided by their sum."""

    def forward(self, logits: Tensor) -> Tensor:
        """Return the probabilities of a batch of logits."""
        each = logits.sigmoid()
        return each / each.sum(-1, keepdim=True)


class Exponential(nn.Module):
    """Compute the values of a model that is linear in the logarithm."""

    def forward(self, logarithms: Tensor) -> Tensor:
        """Return the values of a batch of logarithms."""
        return logarithms.exp()


@dataclass(frozen=True, eq=False)
class Predictor:
    """Hold one or more affine layers, with ReLUs between them, and optionally a head.

    Attributes:
        layers: weight and bias of each layer.
        head: module that turns the last layer's results into probabilities or values; None if there is none.
        method: name of the estimator's method that gives the same results.
    """

    layers: tuple[Layer, ...]
    head: nn.Module | None
    method: str

    def scaled(self, factor: Float[np.ndarray, "results"], offset: Float[np.ndarray, "results"]) -> Predictor:
        """Return the same predictor with results multiplied by a factor, plus an offset."""
        weight, bias = self.layers[-1]
        return replace(self, layers=(*self.layers[:-1], (factor[:, None] * weight, factor * bias + offset)))


def why_not(estimator: Any) -> str | None:
    """Explain why an estimator cannot be read as a predictor, and what to do; None if it can be read."""
    kind = type(estimator).__name__
    if any(base.__module__.startswith("skorch.") for base in type(estimator).__mro__):
        return (
            "is a net of skorch: once it is fitted, pass net.module_, its nn.Module, to transform, and for a scaler "
            "before it, pass explain.Features.of(scaler=scaler) as features"
        )
    if not type(estimator).__module__.startswith("sklearn.") or kind not in READ:
        return NOT_READ
    if kind in PERCEPTRONS and estimator.activation not in ("relu", "identity"):
        return (
            f"has the activation {estimator.activation!r}, which is not piecewise linear; fit it with activation='relu'"
        )
    return None


def read_predictor(estimator: Any) -> Predictor:
    """Read the layers of an estimator for which `why_not` returns None.

    Args:
        estimator: a fitted estimator.

    Raises:
        TransformError: its results are scaled in an unsupported way.
    """
    kind = type(estimator).__name__
    if kind in PERCEPTRONS:
        return _perceptron(estimator)
    coefficients = estimator.coef_.toarray() if hasattr(estimator.coef_, "toarray") else estimator.coef_
    weight = np.atleast_2d(np.asarray(coefficients, dtype=np.float64))
    bias = np.zeros(len(weight)) + np.asarray(estimator.intercept_, dtype=np.float64)
    if kind in LINEAR_REGRESSORS:
        return Predictor(((weight, bias),), None, "predict")
    if kind in LOG_LINEAR_REGRESSORS:
        return Predictor(((weight, bias),), Exponential(), "predict")
    if len(weight) == 1:
        weight, bias = _both(weight, bias)
    if kind in LOGISTIC:
        return Predictor(((weight, bias),), _logistic(estimator, len(weight)), "predict_proba")
    if kind == "SGDClassifier" and estimator.loss == "log_loss":
        head = nn.Sigmoid() if len(weight) == 2 else OneVersusRest()
        return Predictor(((weight, bias),), head, "predict_proba")
    return Predictor(((weight, bias),), None, "decision_function")


def target_scale(transformer: Any, targets: int) -> tuple[Float[np.ndarray, "targets"], Float[np.ndarray, "targets"]]:
    """Return factor and offset by which a transformer of targets is undone.

    Args:
        transformer: the fitted `transformer_` of a `TransformedTargetRegressor`.
        targets: number of results.

    Raises:
        TransformError: it is not one of the linear scalers.
    """
    if type(transformer).__name__ == "FunctionTransformer" and transformer.inverse_func is None:
        return np.ones(targets), np.zeros(targets)
    try:
        mean, scale = scaling(transformer)
    except TransformError as error:
        raise TransformError(
            "estimator: expected targets scaled by a StandardScaler, RobustScaler, MaxAbsScaler or MinMaxScaler, found "
            f"{type(transformer).__name__}, whose inverse is not supported; pass estimator.regressor_, which gives "
            "transformed targets."
        ) from error
    return scale, mean


def _logistic(estimator: Any, classes: int) -> nn.Module:
    # Before version 1.8, `multi_class` selected between multinomial and one-versus-rest models.
    together = getattr(estimator, "multi_class", "auto")
    if classes == 2:
        return nn.Softmax(-1) if together == "multinomial" else nn.Sigmoid()
    alone = together in ("ovr", "warn") or (together in ("auto", "deprecated") and estimator.solver == "liblinear")
    return OneVersusRest() if alone else nn.Softmax(-1)


def _perceptron(estimator: Any) -> Predictor:
    layers = [
        (np.asarray(weight, dtype=np.float64).T, np.asarray(bias, dtype=np.float64))
        for weight, bias in zip(estimator.coefs_, estimator.intercepts_, strict=True)
    ]
    if estimator.activation == "identity":
        while len(layers) > 1:
            (first, offset), (second, bias) = layers[:2]
            layers[:2] = [(second @ first, second @ offset + bias)]
    if estimator.out_activation_ == "identity":
        return Predictor(tuple(layers), None, "predict")
    if estimator.out_activation_ == "exp":  # for the loss "poisson"
        return Predictor(tuple(layers), Exponential(), "predict")
    if estimator.out_activation_ == "softmax":
        return Predictor(tuple(layers), nn.Softmax(-1), "predict_proba")
    if len(estimator.intercepts_[-1]) == 1:
        layers[-1] = _both(*layers[-1])
    return Predictor(tuple(layers), nn.Sigmoid(), "predict_proba")


def _both(weight: Float[np.ndarray, "1 inputs"], bias: Float[np.ndarray, "1"]) -> Layer:
    """Turn the score of the second of two classes into a score for each; the larger one marks the predicted class."""
    return np.concatenate([-weight, weight]), np.concatenate([-bias, bias])
