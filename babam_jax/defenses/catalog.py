"""The defenses, by the names that `config.defense` gives them."""

from collections.abc import Mapping

from babam_jax.defenses.activation_clustering import ActivationClustering
from babam_jax.defenses.base import (
  Detector,
  Part,
  Repair,
  Trainer,
  Treatment,
)
from babam_jax.defenses.both_halves import BothHalves
from babam_jax.defenses.by_kind import ByKind
from babam_jax.defenses.calibrated_noise import CalibratedNoise
from babam_jax.defenses.deep_knn import DeepKnn
from babam_jax.defenses.dp_instahide import DpInstaHide
from babam_jax.defenses.drop import Drop
from babam_jax.defenses.filtered import Filtered
from babam_jax.defenses.filtered_inputs import FilteredInputs
from babam_jax.defenses.fine_pruning import FinePruning
from babam_jax.defenses.flare import Flare
from babam_jax.defenses.fresh_noise import FreshNoise
from babam_jax.defenses.neural_cleanse import NeuralCleanse
from babam_jax.defenses.none import NoDetector, NoRepair, NoTreatment
from babam_jax.defenses.oracle import Oracle
from babam_jax.defenses.pirm_detector import PirmDetector
from babam_jax.defenses.plain import Plain
from babam_jax.defenses.rab import Rab
from babam_jax.defenses.rap import Rap
from babam_jax.defenses.smoothing import Smoothing
from babam_jax.defenses.spectral_signatures import SpectralSignatures
from babam_jax.defenses.strip import Strip
from babam_jax.defenses.ultra_clean import UltraClean
from babam_jax.defenses.victim_class import VictimClass
from babam_jax.defenses.visible_trigger import VisibleTrigger

DETECTORS: dict[str, type[Detector]] = {
  'none': NoDetector,
  'pirm': PirmDetector,
  'oracle': Oracle,
  'victim_class': VictimClass,
  'activation_clustering': ActivationClustering,
  'spectral_signatures': SpectralSignatures,
  'deep_knn': DeepKnn,
  'strip': Strip,
  'rap': Rap,
  'ultra_clean': UltraClean,
  'flare': Flare,
  'visible_trigger': VisibleTrigger,
  'both_halves': BothHalves,
}
TREATMENTS: dict[str, type[Treatment]] = {
  'noise': CalibratedNoise,
  'drop': Drop,
  'filtered': Filtered,
  'by_kind': ByKind,
  'none': NoTreatment,
}
TRAINERS: dict[str, type[Trainer]] = {
  'plain': Plain,
  'dp_instahide': DpInstaHide,
  'filtered_inputs': FilteredInputs,
  'fresh_noise': FreshNoise,
  'rab': Rab,
  'smoothing': Smoothing,
}
REPAIRS: dict[str, type[Repair]] = {
  'none': NoRepair,
  'fine_pruning': FinePruning,
  'neural_cleanse': NeuralCleanse,
}
# Detectors that can judge inputs at test time, too.
INPUT_CHECKS: dict[str, type[Detector]] = {
  name: kind for name, kind in DETECTORS.items() if kind.judges_inputs
}
PARTS: dict[str, Mapping[str, type[Part]]] = {
  'detector': DETECTORS,
  'treatment': TREATMENTS,
  'trainer': TRAINERS,
  'repair': REPAIRS,
  'input_check': INPUT_CHECKS,
}
