"""Shell completion, tested in bash."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from metarl import cli

ASK = """
source {script}
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_metarl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "metarl.bash"
    with path.open("w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        assert cli.run(["--tyro-print-completion", "bash"]) == 0
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("line", "completions"),
    [
        (["metarl", "ev"], ["evaluate"]),
        (["metarl", "train", "maml-"], ["maml-trpo"]),
        (["metarl", "train", "rl2", "ml1:reach-v3", "--ga"], ["--gamma"]),
        (["metarl", "train", "maml", "omniglot", "--wa"], ["--ways"]),
        (["metarl", "evaluate", "RUN", "--protocol", "m"], ["metaworld"]),
        (["metarl", "evaluate", "runs/"], [""]),  # nothing: bash then completes file names
    ],
)
def test_bash_completes(line, completions, script):
    ask = ASK.format(script=script, words=shlex.join(line))
    process = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert process.stdout.splitlines() == completions
    assert not process.stderr


def test_completion_offers_commands_and_no_descriptions(script):
    ask = ASK.format(script=script, words="metarl ''")
    offered = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    assert set(offered) - {"-h", "--help"} == set(cli.COMMANDS)
    ask = ASK.format(script=script, words="metarl train rl2 x --")
    offered = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(offered) > 40
    assert all(option.startswith("--") for option in offered)


def test_zsh_has_a_script_and_other_shells_are_refused(capsys):
    assert cli.run(["--tyro-print-completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("#compdef metarl\n")
    assert cli.run(["--tyro-print-completion", "fish"]) == 2
    assert "unknown shell 'fish'" in capsys.readouterr().err
