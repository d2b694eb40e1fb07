"""Install the built wheel and sdist, each in its own environment away from the sources, and use them.

    python tests/smoke_archives.py dist

The wheel gets the versions of requirements.lock, the sdist the oldest that pyproject.toml allows. Names
come from the archive's own metadata: a dependency that pyproject.toml forgot is missing here.
"""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SDIST_EXTRAS = {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "tests/conftest.py"}


def package_files() -> set[str]:
    """Every file of the package, as a path below src/."""
    files = (path for path in (ROOT / "src" / "dmcm").rglob("*") if path.is_file())
    return {path.relative_to(ROOT / "src").as_posix() for path in files if "__pycache__" not in path.parts}


def only(folder: Path, pattern: str) -> Path:
    """The one file that matches."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{folder} should hold one {pattern}, it holds {len(found)}: make build.")
    return found[0].resolve()


def require(archive: Path, names: set[str], wanted: set[str]) -> None:
    """Stop unless all wanted files are in the archive."""
    if missing := sorted(wanted - names):
        raise SystemExit(f"{archive.name} lacks {', '.join(missing)}.")
    print(f"{archive.name}: {archive.stat().st_size / 1024:.0f} KiB, {len(names)} files")


def try_out(archive: Path, constraints: Path, folder: Path) -> None:
    """Install an archive in a fresh environment; import it, call its command, adapt and predict."""
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / "bin"
    # Isolated from the checkout and from the caller's settings for Python.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    # Optimising programs that run once takes most of the time otherwise, as in conftest.py.
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

    def call(*command: str | Path) -> str:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            raise SystemExit(f"{archive.name}: {command[0]} failed.\n{done.stdout}")
        return done.stdout

    python = programs / "python"
    call(python, "-m", "pip", "install", "--quiet", "--constraint", constraints, archive)
    if "usage: dmcm" not in (text := call(programs / "dmcm", "--help")):
        raise SystemExit(f"{archive.name}: dmcm --help printed no usage line:\n{text}")
    text = call(python, ROOT / "tests" / "smoke.py")
    if f"dmcm from {folder}" not in text:
        raise SystemExit(f"{archive.name}: not the installed package was imported:\n{text}")
    print(f"{archive.name}: installed with {constraints.name}; --help, a library's use, a table's fit")


def locked() -> list[str]:
    """The versions that the tests run with."""
    return re.findall(r"^\S+==\S+", (ROOT / "requirements.lock").read_text(), re.MULTILINE)


def oldest() -> list[str]:
    """The lowest version that is allowed of each direct dependency; what these need in turn is free."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [dependency.replace(">=", "==") for dependency in project["dependencies"]]


def main() -> None:
    """Check both archives in the folder named on the command line."""
    folder = Path(sys.argv[1])
    wheel, sdist = only(folder, "*.whl"), only(folder, "*.tar.gz")
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
        metadata = wheel.name.rsplit("-", 3)[0] + ".dist-info"
        require(wheel, names, package_files() | {f"{metadata}/licenses/LICENSE"})
    with tarfile.open(sdist) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
        require(sdist, names, {f"src/{name}" for name in package_files()} | SDIST_EXTRAS)
    with tempfile.TemporaryDirectory(prefix="dmcm-smoke-") as temporary:
        scratch = Path(temporary).resolve()
        versions = ((wheel, "locked versions", locked()), (sdist, "oldest versions", oldest()))
        for archive, name, pins in versions:
            (scratch / archive.name).mkdir()
            constraints = scratch / name
            constraints.write_text("\n".join(pins))
            try_out(archive, constraints, scratch / archive.name)


if __name__ == "__main__":
    main()
