"""What pyproject.toml cannot say: the shipped `config/` travels in the wheel as package data of `gateway._config`.

Everything else stands in pyproject.toml. `packages.find` has no way to add a folder from elsewhere.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["gateway", "gateway.*"]), "gateway._config"],
    package_dir={"gateway": "gateway", "gateway._config": "config"},
    package_data={
        "gateway": ["py.typed"],
        "gateway._config": ["*.toml", "**/*"],
        "gateway.console": ["static/**/*"],
        "gateway.store": ["lua/*.lua"],
    },
)
