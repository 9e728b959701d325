"""A SpanSink that keeps what it is given."""

from trireme.observe.spans import SpanCounts


class KeptSpans:
    is_on = True

    def __init__(self, percent=100):
        self.percent = percent
        self.kept = []

    def put(self, span):
        self.kept.append(span)

    def counts(self):
        return SpanCounts(sent=len(self.kept))

    def close(self):
        pass

    def named(self, name):
        (found,) = [span for span in self.kept if span.name == name]
        return found
