"""DINOv2 (arXiv 2304.07193) for images without labels: crops, masks, objective, schedules, monitors, and the run.

Where the released code of UltraDINO (arXiv 2506.19552) differs from what its authors or DINOv2's wrote down,
``fidelity`` chooses: ``paper`` does what the code did, ``fixed`` what was meant.
"""
