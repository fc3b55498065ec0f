from __future__ import annotations

from pathlib import Path

import pytest

from edgeproof_configs.errors import DataError
from edgeproof_data.tables import check_table_files, read_captions, read_label_table


def table(folder: Path, text: str | bytes) -> Path:
    file = folder / "table.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_read_label_table__cleans_names_and_paths(tmp_path: Path):
    file = table(tmp_path, '\ufeffrow,path,label\r\n0,./a/x.jpg,stop_sign\r\n1,"b,c/y.jpg",cup\r\n')
    assert read_label_table(file) == {"a/x.jpg": "stop sign", "b,c/y.jpg": "cup"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,class\na.jpg,b\n", "no column path and label; there are: file, class"),
        ("", "no column path and label; there are: none"),
        ("path,label\na.jpg,\n", "1 row without a label: line 2"),
        ("path,label\na.jpg,cat\na.jpg,dog\n", r"1 image with two labels: a.jpg \('cat' and 'dog', line 3\)"),
        ("path,label\na.jpg\n", "a row is too short"),
        (b"path,label\n\xff.jpg,cat\n", "not a csv file in UTF-8"),
    ],
)
def test_read_label_table__says_what_is_wrong(tmp_path: Path, text: str | bytes, message: str):
    with pytest.raises(DataError, match=message):
        read_label_table(table(tmp_path, text))


def test_read_captions__several_an_image(tmp_path: Path):
    file = table(tmp_path, "path,caption\na.jpg,a cat\nb.jpg,a dog\na.jpg, an animal \n")
    assert read_captions(file) == {"a.jpg": ["a cat", "an animal"], "b.jpg": ["a dog"]}
    with pytest.raises(DataError, match="1 empty caption: line 2"):
        read_captions(table(tmp_path, "path,caption\na.jpg, \n"))


def test_check_table_files__counts_what_is_missing(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(DataError, match=r"4 images of this table missing: 0.jpg, 1.jpg, 2.jpg and 1 more"):
        check_table_files(tmp_path / "t.csv", ["a.jpg", *(f"{n}.jpg" for n in range(4))], tmp_path)
