"""Fine-tuning: local models as parameters, how discontinuous that makes a network, and soft half-spaces."""
