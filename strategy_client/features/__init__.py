"""Named features of a price series: one definition each, for the tick loop and for training."""

from strategy_client.features.feature import Feature, FeatureStream, feature_by_name
from strategy_client.features.feature_set import FeatureSet, FeatureSetStream

__all__ = ["Feature", "FeatureSet", "FeatureSetStream", "FeatureStream", "feature_by_name"]
