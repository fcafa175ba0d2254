import subprocess
import sys


def test_reading_a_recipe_imports_no_torch():
    # A typo is answered in a fraction of a second only while this holds.
    code = (
        "import sys, flamingo_ds.config as c; c.load_recipe('demo'); "
        "print([name for name in ('torch', 'transformers', 'deepspeed') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
