"""What holds for all tests."""

import os

# Both cores are busy with tests: a verb that asks for "a process a core" gets one. Tests of several processes say how
# many they want.
os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")
