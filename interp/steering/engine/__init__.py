"""How the LM is run while it is steered: the reference through nnsight, plain hooks, and a fast engine of its own."""
