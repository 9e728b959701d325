"""All of PostgreSQL: passages with pgvector, documents, the queue, index versions."""
