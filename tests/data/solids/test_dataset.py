import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeproof_configs.errors import EdgeproofError
from edgeproof_data.solids.dataset import objects_of, render_solids
from edgeproof_data.solids.spec import COLOURS, MATERIALS, PAIRS, SolidsSpec

TINY = SolidsSpec(image_size=16, objects=1, views=2, val_views=1, test_objects=1, test_views=1)
TOTAL = 48 * 2 + 48 + 64


def bytes_under(root: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("solids")
    render_solids(TINY, root, processes=1)
    return root


def test_render_solids__writes_class_folders_of_views(made):
    assert sorted(file.name for file in (made / "train/red_sphere").iterdir()) == [
        "obj000_v00.png",
        "obj000_v01.png",
    ]
    assert {folder.name for folder in (made / "test").iterdir()} == {pair.folder for pair in PAIRS}
    seen = {pair.folder for pair in PAIRS if not pair.held_out}
    assert {folder.name for folder in (made / "train").iterdir()} == seen
    assert {folder.name for folder in (made / "val").iterdir()} == seen
    with Image.open(made / "train/red_sphere/obj000_v00.png") as image:
        assert (image.size, image.mode) == ((16, 16), "RGB")


def test_render_solids__lists_labels_and_what_is_held_out(made):
    assert (made / "labels.txt").read_text().splitlines() == [pair.name for pair in PAIRS]
    unseen = (made / "unseen.txt").read_text().splitlines()
    assert unseen == [pair.name for pair in PAIRS if pair.held_out]


def test_render_solids__every_image_has_captions_and_none_tells_of_a_held_out_pair_outside_test(made):
    with (made / "captions.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    images = {str(file.relative_to(made)) for file in made.rglob("*.png")}
    assert {row["path"] for row in rows} == images
    assert set(Counter(row["path"] for row in rows).values()) == {8}
    unseen = (made / "unseen.txt").read_text().splitlines()
    outside_test = [row["caption"] for row in rows if not row["path"].startswith("test/")]
    assert not any(name in caption for name in unseen for caption in outside_test)


def test_render_solids__says_what_it_made(made):
    about = json.loads((made / "solids.json").read_text())
    assert about["digest"] == TINY.digest()
    assert about["images"] == {"train": 96, "val": 48, "test": 64}
    assert SolidsSpec(**about["spec"]) == TINY


def test_render_solids__no_two_images_are_equal(made):
    images = [file.read_bytes() for file in made.rglob("*.png")]
    assert len(images) == TOTAL
    assert len(set(images)) == len(images)


@pytest.mark.integration
def test_render_solids__same_bytes_from_any_number_of_processes(made, tmp_path):
    calls = []
    render_solids(TINY, tmp_path, progress=lambda done, total: calls.append((done, total)), processes=2)
    assert bytes_under(tmp_path) == bytes_under(made)
    assert calls[-1] == (TOTAL, TOTAL)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_render_solids__another_seed_gives_other_images_of_the_same_classes(made, tmp_path):
    render_solids(
        SolidsSpec(**{**json.loads((made / "solids.json").read_text())["spec"], "seed": 1}),
        tmp_path,
        processes=1,
    )
    first, second = bytes_under(made), bytes_under(tmp_path)
    assert first.keys() == second.keys()
    assert not any(first[name] == second[name] for name in first if name.endswith(".png"))


def test_render_solids__more_views_keep_the_ones_there_were(made, tmp_path):
    spec = SolidsSpec(image_size=16, objects=1, views=3, val_views=1, test_objects=1, test_views=1)
    render_solids(spec, tmp_path, processes=1)
    before, after = bytes_under(made), bytes_under(tmp_path)
    assert all(after[name] == before[name] for name in before if name.endswith(".png"))


def test_render_solids__a_colour_is_told_by_its_pixels(made):
    middle = {
        colour: np.stack(
            [
                np.asarray(Image.open(f).convert("RGB"))[6:10, 6:10]
                for f in made.glob(f"test/{colour}_s*/*.png")
            ]
        ).mean(axis=(0, 1, 2))
        for colour in COLOURS
    }
    assert middle["red"].argmax() == 0
    assert middle["green"].argmax() == 1
    assert middle["blue"].argmax() == 2


def test_objects_of__three_objects_of_a_class_have_all_materials():
    objects = [item for item in objects_of(SolidsSpec(objects=3)) if item.split == "train"]
    materials = {
        item.pair: {other.material for other in objects if other.pair == item.pair} for item in objects
    }
    assert all(found == set(MATERIALS) for found in materials.values())


def test_render_solids__a_full_disk_is_said_in_words(tmp_path):
    image = tmp_path / "train/red_sphere/obj000_v00.png"
    image.parent.mkdir(parents=True)
    image.symlink_to("/dev/full")
    with pytest.raises(EdgeproofError, match="No space left"):
        render_solids(TINY, tmp_path, processes=1)
