"""Context-conditioned networks, one interface: `encode` inputs, `decode` with contexts."""

from dmcm.networks.base import ACTIVATIONS, Network
from dmcm.networks.concat import ConcatNetwork
from dmcm.networks.film import FilmNetwork
from dmcm.networks.tensor_product import TensorProductNetwork

__all__ = ["ACTIVATIONS", "ConcatNetwork", "FilmNetwork", "Network", "TensorProductNetwork"]
