"""Which labels to trust: evidence, split, relabelling and the acceptance of a round."""
