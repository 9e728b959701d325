"""Changes to the files of a checkpoint."""

import json


def edit(path, **keys):
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))
