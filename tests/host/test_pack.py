import mixgrpo_pack.nodes


def test_import():
    assert mixgrpo_pack.nodes.NODES == []
