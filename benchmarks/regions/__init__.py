"""Two regions on one machine: namespaces, links with delay and loss, and what a vanished region costs."""
