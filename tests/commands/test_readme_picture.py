"""The README's picture can be drawn again from any run."""

import struct

from ch07.commands.readme_picture import draw_readme_picture


def test_it_is_a_picture_of_a_run(run, tmp_path):
    path = tmp_path / "picture.png"
    draw_readme_picture(run, path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert width > 800 and height > 600
