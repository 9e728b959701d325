import io

from rich.console import Console

from fakes.surface import Surface
from trireme.artifacts.recipe import Recipe
from trireme.tune.paired_rounds import run_finals
from trireme.tune.progress import show_search
from trireme.tune.search import Search, SearchPlan
from trireme.tune.setting import make_space

RECIPE = Recipe("m", "text_encoder", source="a/b", max_batch_size=64, dynamic_batching=True, instances=1)
SPACE = make_space([RECIPE], cores=8, slo_p95_ms=50)
PLAN = SearchPlan(50.0, (1, 2, 4, 8, 16, 32), seconds=600.0)


def show(**options):
    console = Console(file=io.StringIO(), width=300, **options)
    surface = Surface({"m.instances": 4}, broken=lambda setting: setting["m.instances"] == 8)
    with show_search(console, 50.0, PLAN.seconds) as watch:
        found = Search(SPACE, PLAN, surface, watch, surface.clock).run()
        run_finals(found, PLAN, surface, watch)
    return found, console.file.getvalue()


def test_elsewhere_than_in_a_terminal_each_setting_is_a_line():
    found, text = show()
    lines = text.splitlines()
    assert len(lines) == len(found.trials) + PLAN.rounds
    assert "of 10:00 307.7/s, p95" in lines[0] and "(as it is), within limit" in lines[0]
    assert any("(instances 4" in line and line.startswith("0:00") for line in lines)
    assert any("instances 8" in line and "out of memory, failed" in line for line in lines)
    assert lines[-1].endswith("round 4 of 4")


def test_in_a_terminal_a_live_line_has_the_best_so_far():
    _, text = show(force_terminal=True)
    assert "best so far" in text
