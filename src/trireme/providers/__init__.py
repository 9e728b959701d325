"""Who answers: the neutral form of a chat, the port of a provider, its implementations, the attempts at a chain."""
