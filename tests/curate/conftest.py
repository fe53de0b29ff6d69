"""Tests that decode for curate need OpenCV and pdqhash, which the extra `curate` brings."""

from importlib.util import find_spec

if find_spec("cv2") is None or find_spec("pdqhash") is None:
    collect_ignore = [
        "test_cuts.py",
        "test_measuring.py",
        "test_engine.py",
        "test_forget.py",
        "test_page.py",
    ]
    collect_ignore += ["test_genuine_footage.py", "test_picture.py", "test_ray_engine.py"]
    collect_ignore += ["test_fingerprint.py", "test_duplicates.py", "test_duplicate_groups.py"]
    collect_ignore += ["test_contamination.py", "test_contaminating.py"]
    collect_ignore += ["test_detectors.py", "test_model_stage.py", "test_persons.py"]
    collect_ignore += ["test_text_in_frames.py", "test_embedding.py"]
    collect_ignore += ["test_demonstration.py"]
