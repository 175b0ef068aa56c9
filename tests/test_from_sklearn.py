"""Fitted estimators of scikit-learn as networks: what they give, in the units of their own tables."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from sklearn import compose, datasets, decomposition, impute, linear_model, model_selection, neural_network, svm
from sklearn import preprocessing as pre
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from torch import nn

from torch_shallow import Box, TransformError, UnsupportedOperation, explain, from_sklearn, plot, transform

DIABETES, WINE, CANCER = (
    datasets.load_diabetes(return_X_y=True, scaled=False),
    datasets.load_wine(return_X_y=True),
    datasets.load_breast_cancer(return_X_y=True),
)


def fitted(estimator: Any, x: Any, y: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few steps of training are enough
        return estimator.fit(x, y)


def mlp(*hidden: int, classifier: bool = False, **options: Any) -> Any:
    kind = neural_network.MLPClassifier if classifier else neural_network.MLPRegressor
    return kind(hidden_layer_sizes=hidden, max_iter=60, random_state=0, **options)


def expected_of(estimator: Any, network: nn.Sequential, table: Any) -> np.ndarray:
    """What the estimator says of the classes, each by itself, or what it predicts."""
    if not hasattr(estimator, "classes_"):
        found = estimator.predict(table)
        return found.reshape(len(found), -1)
    if not isinstance(network[-1], nn.Linear):
        return estimator.predict_proba(table)
    scores = estimator.decision_function(table)
    return scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1)


def assert_equal(estimator: Any, table: Any) -> tuple[nn.Sequential, explain.Features]:
    network, features = from_sklearn(estimator)
    x = features.encode(table)
    assert all(parameter.dtype == torch.float64 for parameter in network.parameters())
    with torch.no_grad():
        found = network(x).numpy()
    expected = expected_of(estimator, network, table)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-9 * (1.0 + np.abs(expected).max())
    assert np.ptp(expected, axis=0).max() > 1e-3
    if hasattr(estimator, "classes_"):
        assert (estimator.classes_[found.argmax(axis=1)] == estimator.predict(table)).all()
    return network, features


SCALERS = [
    pre.StandardScaler(),
    pre.StandardScaler(with_mean=False),
    pre.StandardScaler(with_std=False),
    pre.MinMaxScaler((-1.0, 3.0)),
    pre.RobustScaler(unit_variance=True),
    pre.RobustScaler(with_centering=False),
    pre.MaxAbsScaler(),
    decomposition.PCA(4),
    decomposition.PCA(4, whiten=True),
    impute.SimpleImputer(),
    SelectKBest(k=4),
    FeatureUnion(
        [("s", pre.StandardScaler()), ("p", decomposition.PCA(2)), ("d", "drop")], transformer_weights={"p": 0.5}
    ),
    make_pipeline(make_pipeline(pre.RobustScaler(), None), "passthrough", VarianceThreshold()),
]


@pytest.mark.parametrize("step", SCALERS, ids=str)
def test_affine_steps_become_a_part_of_the_first_layer(step: Any) -> None:
    x, y = DIABETES
    network, _ = assert_equal(fitted(make_pipeline(step, mlp(6, 4)), x, y), x)
    assert [type(module) for module in network] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert network[0].in_features == x.shape[1]


REGRESSORS = [
    linear_model.LinearRegression(),
    linear_model.Ridge(),
    linear_model.Lasso(0.1),
    linear_model.ElasticNet(0.1),
    linear_model.SGDRegressor(random_state=0),
    linear_model.HuberRegressor(max_iter=500),
    linear_model.PoissonRegressor(max_iter=500),
    svm.LinearSVR(random_state=0),
    mlp(),
    mlp(8),
    mlp(8, 4, activation="identity"),
    model_selection.GridSearchCV(linear_model.Ridge(), {"alpha": [0.1, 1.0]}, cv=2),
]


@pytest.mark.parametrize("regressor", REGRESSORS, ids=str)
def test_regressors_of_one_and_of_several_targets(regressor: Any) -> None:
    x, y = DIABETES
    assert_equal(fitted(make_pipeline(pre.StandardScaler(), regressor), x, y), x)
    if isinstance(regressor, neural_network.MLPRegressor | linear_model.LinearRegression | linear_model.Lasso):
        assert_equal(fitted(make_pipeline(pre.StandardScaler(), regressor), x, np.stack([y, x[:, 3]], axis=1)), x)


CLASSIFIERS = [
    linear_model.LogisticRegression(max_iter=500),
    linear_model.SGDClassifier(random_state=0),
    linear_model.SGDClassifier(loss="log_loss", random_state=0),
    linear_model.RidgeClassifier(),
    linear_model.Perceptron(random_state=0),
    svm.LinearSVC(random_state=0),
    mlp(8, classifier=True),
    mlp(8, classifier=True, activation="identity"),
]


@pytest.mark.parametrize("data", [WINE, CANCER], ids=["three classes", "two classes"])
@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=str)
def test_classifiers_have_an_output_for_each_class(classifier: Any, data: Any) -> None:
    x, y = data
    estimator = fitted(make_pipeline(pre.StandardScaler(), classifier), x, np.array(["c", "a", "b"])[y])
    network, features = assert_equal(estimator, x)
    logits = network if isinstance(network[-1], nn.Linear) else network[:-1]
    if hasattr(estimator, "decision_function"):
        scores = estimator.decision_function(x)
        scores = scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1)
        assert np.abs(logits(features.encode(x)).detach().numpy() - scores).max() <= 1e-9 * np.abs(scores).max()


def test_several_labels_at_once() -> None:
    x, y = WINE
    estimator = fitted(
        make_pipeline(pre.StandardScaler(), mlp(8, classifier=True)), x, np.stack([y == 0, y > 1], axis=1)
    )
    network, features = from_sklearn(estimator)
    found = network(features.encode(x)).detach().numpy()
    assert np.abs(found - estimator.predict_proba(x)).max() < 1e-9


@pytest.mark.parametrize("scaler", [pre.MinMaxScaler((-1.0, 2.0), clip=True), "clipped maximum"], ids=str)
def test_clips_beyond_the_data_that_a_scaler_has_seen(scaler: Any) -> None:
    x, y = DIABETES
    if isinstance(scaler, str):
        if "clip" not in pre.MaxAbsScaler().get_params():
            pytest.skip("of later versions of scikit-learn")
        scaler = pre.MaxAbsScaler(clip=True)
    estimator = fitted(make_pipeline(scaler, mlp(6)), x[:100], y[:100])
    far = np.concatenate([x, 3.0 * x, -x])
    network, _ = assert_equal(estimator, far)
    mixed = compose.make_column_transformer(
        (make_pipeline(scaler, pre.StandardScaler(), pre.MinMaxScaler(clip=True)), [0, 2]),
        (pre.MinMaxScaler(clip=True), [1, 2, 5]),
        (decomposition.PCA(2), [3, 4]),
        remainder="passthrough",
    )
    network, _ = assert_equal(fitted(make_pipeline(mixed, linear_model.Ridge()), x[:100], y[:100]), far)
    assert [type(module).__name__ for module in network] == ["Linear", "Clipped", "Linear", "Clipped", "Linear"]
    shallow = transform(network, domain=Box(far.min(axis=0), far.max(axis=0)))
    assert shallow.certify(network).passed


@pytest.mark.parametrize(
    "scaler", [pre.StandardScaler(), pre.MinMaxScaler(), pre.RobustScaler(), pre.MaxAbsScaler(), None], ids=str
)
def test_scaled_targets_are_given_in_their_own_units(scaler: Any) -> None:
    x, y = DIABETES
    inner = make_pipeline(pre.StandardScaler(), mlp(8))
    network, _ = assert_equal(fitted(compose.TransformedTargetRegressor(inner, transformer=scaler), x, y), x)
    assert [type(module) for module in network] == [nn.Linear, nn.ReLU, nn.Linear]
    two = np.stack([y, x[:, 3]], axis=1)
    assert_equal(fitted(compose.TransformedTargetRegressor(inner, transformer=scaler), x, two), x)


def people(rows: int = 300) -> tuple[pd.DataFrame, np.ndarray]:
    """A table of numbers, of categories that are text and whole numbers, and of a name that says nothing."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": rng.normal(40.0, 10.0, rows),
            "name": [f"n{i}" for i in range(rows)],
            "sex": rng.choice(["f", "m"], rows),
            "region": rng.choice(list("abcde"), rows, p=[0.03, 0.5, 0.02, 0.3, 0.15]),
            "income": rng.normal(3000.0, 400.0, rows),
            "children": rng.integers(0, 4, rows),
        }
    )
    return table, ((table.age > 40.0) ^ (table.sex == "m") ^ (table.income > 3300.0)).to_numpy()


def encoded(**options: Any) -> Any:
    return compose.ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(impute.SimpleImputer(strategy="median"), pre.StandardScaler()),
                ["age", "income"],
            ),
            (
                "kinds",
                make_pipeline(impute.SimpleImputer(strategy="most_frequent"), pre.OneHotEncoder(**options)),
                ["sex", "region"],
            ),
            ("count", pre.OneHotEncoder(handle_unknown="ignore"), ["children"]),
        ]
    )


NAMES = ["age", "sex=f", "sex=m", *(f"region={k}" for k in "abcde"), "income", *(f"children={k}" for k in range(4))]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"drop": "first"},
        {"drop": "if_binary"},
        {"drop": ["m", "d"]},
        {"min_frequency": 20},
        {"max_categories": 3, "handle_unknown": "infrequent_if_exist"},
        {"min_frequency": 20, "drop": "first"},
        {"min_frequency": 60, "drop": "if_binary"},
        {"sparse_output": False},
    ],
    ids=str,
)
def test_a_category_is_an_input(options: dict[str, Any]) -> None:
    table, label = people()
    estimator = fitted(make_pipeline(encoded(**options), mlp(6, classifier=True)), table, label)
    _, features = assert_equal(estimator, table)
    assert list(features.names) == NAMES
    assert features.one_hot == ((1, 2), (3, 4, 5, 6, 7), (9, 10, 11, 12))
    x = features.encode(table)
    assert all((x[:, list(group)].sum(dim=1) == 1.0).all() for group in features.one_hot)
    assert torch.equal(features.encode(table.to_numpy()), x)


def test_missing_values_are_filled_in_before_the_network() -> None:
    table, label = people()
    table.loc[[1, 5], "age"] = np.nan
    table.loc[[2, 5], "sex"] = None
    estimator = fitted(make_pipeline(encoded(), mlp(6, classifier=True)), table, label)
    _, features = assert_equal(estimator, table)
    assert features.encode(table)[1, 0] == np.nanmedian(table.age)
    table.loc[7, "children"] = np.nan  # of which there is no imputer
    with pytest.raises(TransformError, match="'children', found a missing value in 1 of 300 rows, first in row 7"):
        features.encode(table)
    seen = compose.make_column_transformer((impute.SimpleImputer(add_indicator=True), ["age"]))
    _, features = assert_equal(fitted(make_pipeline(seen, linear_model.Ridge()), table, table.income), table.dropna())
    with pytest.raises(TransformError, match="'age', found a missing value"):
        features.encode(table)
    both = compose.make_column_transformer((impute.SimpleImputer(), ["age"]), ("passthrough", ["age"]))
    complete = table.dropna()
    _, features = assert_equal(fitted(make_pipeline(both, linear_model.Ridge()), complete, complete.income), complete)
    with pytest.raises(TransformError, match="'age', found a missing value"):
        features.encode(table)


@pytest.mark.parametrize("options", [{}, {"min_frequency": 60}, {"drop": "first", "min_frequency": 60}], ids=str)
def test_missing_may_be_a_category(options: dict[str, Any]) -> None:
    table, label = people()
    table.loc[::7, "region"] = None
    kinds = compose.make_column_transformer(
        (pre.OneHotEncoder(**options), ["region", "sex"]), ("passthrough", ["income"])
    )
    _, features = assert_equal(fitted(make_pipeline(kinds, linear_model.LogisticRegression()), table, label), table)
    assert features.names[7] in ("region=None", "region=nan")
    assert features.encode(table)[0, 7] == 1.0


def test_columns_stay_as_they_are_until_they_are_used() -> None:
    table, label = people()
    first = compose.ColumnTransformer(
        [
            ("age", impute.SimpleImputer(), ["age"]),
            ("rest", "passthrough", ["sex", "income"]),
            ("name", "drop", ["name"]),
        ]
    )
    second = compose.ColumnTransformer([("kind", pre.OneHotEncoder(), [1])], remainder=pre.StandardScaler())
    _, features = assert_equal(fitted(make_pipeline(first, second, linear_model.Ridge()), table, label), table)
    assert features.names == ("age", "sex=f", "sex=m", "income")
    _, features = from_sklearn(make_pipeline(first, second, linear_model.Ridge()).fit(table, label), list("abcdef"))
    assert features.names == ("a", "c=f", "c=m", "e")


def test_answers_are_in_the_units_of_the_table() -> None:
    """A change that is found is a change of the table, and the estimator itself says the other class."""
    table, label = people()
    estimator = fitted(
        make_pipeline(encoded(drop="first"), mlp(8, classifier=True, learning_rate_init=0.03)), table, label
    )
    network, features = from_sklearn(estimator)
    predicted = estimator.predict(table)
    for row in range(4):
        x = features.encode(table)[row]
        target = 1 - int(predicted[row])
        found = explain.counterfactual(
            network[:-1], x, target, norm=1, features=features, fixed=["age"], scale={"income": 1 / 400}, margin=0.01
        )
        changed = table.iloc[[row]].copy()
        assert found.x is not None
        assert found.distance > 0.0
        for column in features.columns:
            places = [features.names.index(name) for name in column.inputs]
            values = found.x[places].numpy()
            if column.categories is None:
                changed[column.name] = values
            else:
                assert sorted(values.round(9)) == [0.0] * (len(values) - 1) + [1.0]
                changed[column.name] = [column.categories[int(values.argmax())]]
        assert changed.age.item() == table.age[row]
        assert estimator.predict(changed).item() == bool(target)


def test_a_counterfactual_tries_all_categories() -> None:
    table, label = people()
    kinds = compose.make_column_transformer((pre.OneHotEncoder(), ["region", "sex", "children"]))
    estimator = fitted(make_pipeline(kinds, mlp(6, classifier=True)), table, label ^ (table.children > 1))
    network, features = from_sklearn(estimator)
    every = pd.DataFrame(itertools.product("abcde", "fm", range(4)), columns=["region", "sex", "children"])
    every = every.assign(age=0.0, name="", income=0.0)[list(table.columns)]
    predicted, places = estimator.predict(every), features.encode(every)
    for row in range(0, 40, 9):
        found = explain.counterfactual(network[:-1], places[row], 1 - int(predicted[row]), norm=1, features=features)
        nearest = (places - places[row]).abs().sum(dim=1)[torch.from_numpy(predicted != predicted[row])].min()
        assert found.distance == pytest.approx(nearest.item(), abs=1e-9)


def test_shap_values_are_those_of_the_estimator_by_definition() -> None:
    x, y = DIABETES
    x = x[:, [0, 2, 3, 8]]
    target = compose.TransformedTargetRegressor(
        make_pipeline(pre.RobustScaler(), mlp(6)), transformer=pre.StandardScaler()
    )
    estimator = fitted(target, x, y)
    network, features = from_sklearn(estimator, ["age", "bmi", "bp", "s5"])
    found = explain.shap_values(network, torch.from_numpy(x[:3]), torch.from_numpy(x[3:6]), features=features)
    assert found.feature_names == ["age", "bmi", "bp", "s5"]
    for row in range(3):
        worth = {}
        for coalition in itertools.product([False, True], repeat=4):
            mixed = np.where(coalition, x[row], x[3:6])
            worth[coalition] = estimator.predict(mixed).mean()
        for player in range(4):
            total = 0.0
            for coalition in worth:
                if not coalition[player]:
                    size = sum(coalition)
                    share = math.factorial(size) * math.factorial(3 - size) / math.factorial(4)
                    joined = (*coalition[:player], True, *coalition[player + 1 :])
                    total += share * (worth[joined] - worth[coalition])
            assert found.values[row, player] == pytest.approx(total, abs=1e-8)


def test_rules_and_local_models_hold_for_rows_of_the_table() -> None:
    x, y = DIABETES
    x = x[:, [2, 3, 8]]
    estimator = fitted(make_pipeline(pre.MinMaxScaler(), mlp(6)), x, y)
    network, features = from_sklearn(estimator, ["bmi", "bp", "s5"])
    shallow = transform(network, domain=Box(x.min(axis=0), x.max(axis=0)))
    assert shallow.certify(network).passed
    row = torch.from_numpy(x[4])
    rules = explain.rules(shallow.regions[shallow.locate(row)], features=features)
    found = explain.explain(shallow, row, features=features)
    inside = np.random.default_rng(0).uniform(x.min(axis=0), x.max(axis=0), (20_000, 3))
    inside = inside[(inside @ rules.A.T <= rules.b).all(axis=1)]
    assert len(inside) > 100
    assert np.abs(inside @ found.weight[0] + found.bias[0] - estimator.predict(inside)).max() < 1e-9


def test_pictures_have_the_axes_of_the_table() -> None:
    x, y = DIABETES
    x = x[:, [2, 3]]
    network, features = from_sklearn(fitted(make_pipeline(pre.StandardScaler(), mlp(6)), x, y), ["bmi", "bp"])
    shallow = transform(network, domain=Box(x.min(axis=0), x.max(axis=0)))
    axes = plot.regions(shallow, features=features, ax=Figure().subplots())
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("bmi", "bp")
    assert axes.get_xlim() == pytest.approx((x[:, 0].min(), x[:, 0].max()))
    assert axes.get_ylim() == pytest.approx((x[:, 1].min(), x[:, 1].max()))


def test_a_network_is_certified_whatever_the_units() -> None:
    x, y = CANCER
    estimator = fitted(make_pipeline(pre.StandardScaler(), decomposition.PCA(3), mlp(6, classifier=True)), x, y)
    network, _ = assert_equal(estimator, x)
    shallow = transform(network, domain=Box(x.min(axis=0), x.max(axis=0)))
    assert shallow.certify(network).passed
    assert np.abs(shallow(torch.from_numpy(x)).numpy() - estimator.predict_proba(x)).max() < 1e-9


class Scaler(pre.StandardScaler):
    """A class of the user's own, which might do anything."""


def numbers_and_categories() -> Any:
    return make_union(pre.StandardScaler(), pre.OneHotEncoder(handle_unknown="ignore"))


Ridge = linear_model.Ridge


@pytest.mark.parametrize(
    ("estimator", "match"),
    [
        (mlp(3, activation="tanh"), r"it: MLPRegressor has the activation 'tanh', .* activation='relu'"),
        (
            make_pipeline(pre.StandardScaler(), mlp(3, activation="logistic")),
            r"mlpregressor: MLPRegressor has the activation 'logistic'",
        ),
        (
            make_pipeline(pre.PolynomialFeatures(), pre.PowerTransformer(), Ridge()),
            r"polynomialfeatures: PolynomialFeatures is not supported.\n  powertransformer: PowerTransformer is not",
        ),
        (make_pipeline(Scaler(), Ridge()), r"scaler: Scaler is not supported.\nSupported steps are StandardScaler"),
        (make_pipeline(pre.StandardScaler(), decomposition.PCA()), r"pca: PCA is not supported as a predictor"),
        (svm.SVR(), r"it: SVR is not supported as a predictor"),
        (make_pipeline(pre.FunctionTransformer(np.abs), Ridge()), r"applies a custom function"),
        (make_pipeline(impute.SimpleImputer(missing_values=0), Ridge()), r"treats the number 0 .* use NaN instead"),
        (make_pipeline(numbers_and_categories(), Ridge()), r"'x0' is used as numbers and as categories"),
        (
            make_pipeline(pre.StandardScaler(), pre.OneHotEncoder(), Ridge()),
            r"OneHotEncoder encodes columns of the table, found that it encodes results of an earlier step",
        ),
        (
            compose.TransformedTargetRegressor(Ridge(), func=np.log, inverse_func=np.exp),
            r"found FunctionTransformer, whose inverse is not supported; pass estimator\.regressor_",
        ),
    ],
    ids=str,
)
def test_what_is_refused(estimator: Any, match: str) -> None:
    x, y = DIABETES
    with pytest.raises(TransformError, match=match):
        from_sklearn(fitted(estimator, x[:40], y[:40]))


def test_what_is_no_fitted_estimator_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    x, y = DIABETES
    with pytest.raises(TransformError, match="ridge: Ridge is not fitted; call its fit first"):
        from_sklearn(make_pipeline(pre.StandardScaler(), Ridge()))
    with pytest.raises(TransformError, match="standardscaler: StandardScaler is not fitted"):
        from_sklearn(make_pipeline(pre.StandardScaler(), Ridge().fit(x, y)))
    with pytest.raises(TransformError, match="it: GridSearchCV is not fitted"):
        from_sklearn(model_selection.GridSearchCV(Ridge(), {}))
    for thing, match in (
        (nn.Linear(2, 1), "pass it to transform as it is"),
        (Ridge, "found the class Ridge"),
        (3, "int"),
    ):
        with pytest.raises(TypeError, match=match):
            from_sklearn(thing)
    with pytest.raises(TransformError, match="feature_names: expected one name for each of the 10 columns"):
        from_sklearn(Ridge().fit(x, y), ["a", "b"])
    for ask in (transform, lambda model: explain.output_range(model, Box(0.0, 1.0))):
        with pytest.raises(TypeError, match=r"found Ridge; pass its network: .*from_sklearn\(estimator\)"):
            ask(Ridge().fit(x, y))


def test_a_net_of_skorch_is_told_what_to_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """skorch is not needed for this: its nets are known by their module and by `module_`."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    net = type("NeuralNetRegressor", (linear_model.Ridge,), {"__module__": "skorch.regressor"})()
    net.module_ = nn.Linear(2, 1)
    with pytest.raises(UnsupportedOperation, match=r"is a net of skorch: .* pass net\.module_"):
        from_sklearn(make_pipeline(pre.StandardScaler(), net))
    with pytest.raises(TypeError, match=r"found NeuralNetRegressor; pass net\.module_, the fitted nn\.Module"):
        transform(net)


def test_an_estimator_that_says_something_else_is_noticed() -> None:
    x, y = DIABETES
    estimator = Ridge().fit(x, y)
    estimator.predict = lambda table: np.asarray(table)[:, 0] ** 2
    with pytest.raises(TransformError, match="to give the results of predict, found other results; please report this"):
        from_sklearn(estimator)


def test_weights_of_lower_precision_are_read_as_they_are() -> None:
    x, y = (array.astype(np.float32) for array in DIABETES)
    estimator = fitted(make_pipeline(pre.StandardScaler(), mlp(6)), x, y)
    assert estimator[-1].coefs_[0].dtype == np.float32
    network, features = from_sklearn(estimator)
    expected = estimator.predict(x)
    assert np.abs(network(features.encode(x))[:, 0].detach().numpy() - expected).max() < 1e-5 * np.abs(expected).max()


def test_what_a_row_of_a_table_may_not_have() -> None:
    table, label = people()
    _, features = from_sklearn(fitted(make_pipeline(encoded(), linear_model.RidgeClassifier()), table, label))
    wrong = [
        (table.assign(region="z"), r"'region', found something other than its 5 categories 'a', .* in 300 of 300 rows"),
        (table.assign(income=np.inf), "'income', found an infinite number"),
        (table.assign(income="much"), "numbers in the column 'income'"),
        (table.drop(columns="age"), "expected a column 'age', found name, sex"),
        (np.zeros((3, 2)), r"expected rows of at least \d columns, found an array of shape \(3, 2\)"),
    ]
    for given, match in wrong:
        with pytest.raises(TransformError, match=match):
            features.encode(given)
