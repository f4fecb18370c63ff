"""Distribution `footfall`: the jobs and the transforms they are made of."""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "transforms/__init__.py").read_text())

setup(
    name="footfall",
    version=VERSION[1] if VERSION else "0",
    description="Mobile network events to anonymised footfall, nightly, on Apache Spark",
    packages=["jobs", "jobs.attacks", "transforms"],
    package_data={"transforms": ["*.j2", "*.json", "*.po"]},
    python_requires=">=3.11",
    install_requires=(ROOT / "requirements.in").read_text().splitlines(),
    classifiers=["Private :: Do Not Upload", "Programming Language :: Python :: 3.11"],
)
