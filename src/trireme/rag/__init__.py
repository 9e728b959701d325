"""Answers with citations: sentences, prompt, citations, and `answer` over ports."""
