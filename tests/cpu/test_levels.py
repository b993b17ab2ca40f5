from running import SEARCH, train
def test_a(data, tmp_path):
    run = train(SEARCH, data, tmp_path, "--max-update", "20", record=True)
    for s in run.steps: print(s.level, s.updates, s.loss, s.lr)
