"""Tests that decode for curate need OpenCV, which the extra `curate` brings."""

from importlib.util import find_spec

if find_spec("cv2") is None:
    collect_ignore = [
        "test_cuts.py",
        "test_measuring.py",
        "test_engine.py",
        "test_forget.py",
        "test_page.py",
    ]
    collect_ignore += ["test_genuine_footage.py", "test_picture.py", "test_ray_engine.py"]
