import cai
def test_a():
    assert not cai.tabulate(cai.from_gymnasium("FrozenLake-v1", discount=0.9)).timed
