"""What pyproject.toml cannot say: a wheel carries the folders recipes/ and launch/ inside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Puts them where `rlcomm.utils.shipped` looks; an editable install finds them in the clone."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        # what installs and runs the clone itself is of no use without it
        of_the_clone = shutil.ignore_patterns(
            "studies", "install.sh", "quickstart.sh", "test.sh", "__pycache__"
        )
        for folder in ("recipes", "launch"):
            target = Path(self.build_lib, "rlcomm", folder)
            shutil.rmtree(target, ignore_errors=True)  # of an earlier build
            shutil.copytree(folder, target, ignore=of_the_clone)


setup(cmdclass={"build_py": BuildWithRecipes})
