from .brains import simulate_responses as simulate_responses
from .datasets import simulate_dataset as simulate_dataset
