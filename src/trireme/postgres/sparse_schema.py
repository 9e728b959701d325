"""Sparse weights beside the vectors of an index version, or instead of them."""

from __future__ import annotations

# Rows of before have one vector each, so that nothing need be read to know that the wider rule holds for them.
SPARSE = """
    -- Whether any passage has sparse weights by this embedder.
    ALTER TABLE trireme.indexes ADD COLUMN has_sparse boolean NOT NULL DEFAULT false;
    ALTER TABLE trireme.embeddings ADD COLUMN sparse sparsevec;
    ALTER TABLE trireme.embeddings DROP CONSTRAINT embeddings_check;
    ALTER TABLE trireme.embeddings ADD CONSTRAINT embeddings_check
        CHECK (num_nonnulls(embedding, half) <= 1 AND num_nonnulls(embedding, half, sparse) > 0) NOT VALID;
    ALTER TABLE trireme.staged ADD COLUMN sparse sparsevec;
    ALTER TABLE trireme.staged ALTER COLUMN embedding DROP NOT NULL;
    """
