import subprocess
import sys
from importlib import import_module
from pkgutil import iter_modules, walk_packages

import pytest

import kanserve


@pytest.mark.parametrize("name", kanserve.__all__)
def test_each_public_name_is_what_its_home_calls_so(name):
    home = kanserve._HOME_OF[name]
    assert getattr(kanserve, name) is getattr(import_module(f"kanserve.{home}"), name)


@pytest.mark.parametrize("name", kanserve.__all__)
def test_no_module_hides_a_public_name(name):
    # `import kanserve.x` sets the attribute x of the package: it would replace a function of that name.
    with pytest.raises(ModuleNotFoundError):
        import_module(f"kanserve.{name}")


def test_no_module_of_a_package_hides_a_name_that_it_exports():
    packages = [module.name for module in walk_packages(kanserve.__path__, "kanserve.") if module.ispkg]
    assert len(packages) > 30
    for name in packages:
        exported = getattr(import_module(name), "__all__", ())
        inside = {module.name for module in iter_modules(import_module(name).__path__)}
        assert not inside & set(exported), name


def test_importing_the_package_imports_nothing_heavy():
    script = "import sys, kanserve; print(sorted({m.split('.')[0] for m in sys.modules} & {'numpy', 'torch', 'grpc'}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error_and_dir_lists_the_known_ones():
    with pytest.raises(AttributeError, match="fitt"):
        getattr(kanserve, "fitt")  # noqa: B009  (a type checker knows that it is not there)
    assert set(kanserve.__all__) <= set(dir(kanserve))


def test_a_module_is_an_attribute_without_an_import_of_its_own():
    script = "import kanserve; print(kanserve.formula.source.__name__, kanserve.repository.open.__name__)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "source open\n"
