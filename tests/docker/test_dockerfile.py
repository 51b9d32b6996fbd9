"""docker/Dockerfile and .dockerignore: what must hold of them, without an engine."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.docker.dockerfile import ROOT, Instruction, Stage, context_files, is_ignored, read_dockerfile

DOCKERFILE = read_dockerfile((ROOT / "docker/Dockerfile").read_text())
TARGETS = ("cpu", "gpu")
INSTRUCTIONS = [(stage.name, each) for stage in DOCKERFILE.stages.values() for each in stage.instructions]
# The image itself, a version as tag, and the digest.
PINNED = re.compile(r"[a-z0-9./-]+:\d+\.\d+\.\d+[a-z0-9.-]*@sha256:[0-9a-f]{64}")


def found(keyword: str, stages: list[Stage] | None = None) -> list[Instruction]:
    stages = list(DOCKERFILE.stages.values()) if stages is None else stages
    return [each for stage in stages for each in stage.instructions if each.keyword == keyword]


def index_of(stage: str, start: str) -> int:
    """The place of the first instruction of a stage that starts with these words."""
    lines = [f"{each.keyword} {each.text}" for each in DOCKERFILE.stages[stage].instructions]
    return next(place for place, line in enumerate(lines) if line.startswith(start))


def test_it_has_the_two_targets_last():
    assert list(DOCKERFILE.stages)[-2:] == list(TARGETS)


def test_every_base_is_an_earlier_stage_or_an_argument():
    earlier: set[str] = set()
    for stage in DOCKERFILE.stages.values():
        argument = re.fullmatch(r"\$\{(\w+)\}", stage.base)
        assert stage.base in earlier or argument[1] in DOCKERFILE.arguments
        earlier.add(stage.name)


def test_every_image_is_pinned_by_version_and_digest():
    assert {stage.base[2:-1] for stage in DOCKERFILE.stages.values() if stage.base.startswith("$")} == set(
        DOCKERFILE.arguments
    )
    for image in DOCKERFILE.arguments.values():
        assert PINNED.fullmatch(image)


def test_pythons_version_is_that_of_the_project():
    assert DOCKERFILE.arguments["BASE"].startswith("python:3.11.")
    assert 'requires-python = ">=3.11,<3.12"' in (ROOT / "pyproject.toml").read_text()


def test_the_cuda_compilers_version_is_that_of_the_locked_libraries():
    locked = re.search(r"^nvidia-cuda-runtime-cu12==(\d+\.\d+)\.", (ROOT / "requirements/gpu.lock").read_text(), re.M)[
        1
    ]
    assert DOCKERFILE.arguments["CUDA_TOOLKIT"].startswith(f"nvidia/cuda:{locked}.")
    assert f"/usr/local/cuda-{locked} " in found("COPY", [DOCKERFILE.stages["build-gpu"]])[1].text


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_a_user_of_its_own_by_number(target):
    # Kubernetes can tell that it is not root only from a number.
    assert found("USER", [DOCKERFILE.stages[target]])[-1].text == "1000:1000"
    assert "useradd --uid 1000 --gid 1000" in " ".join(each.text for each in found("RUN", DOCKERFILE.lineage(target)))


@pytest.mark.parametrize("target", TARGETS)
def test_after_the_code_nothing_is_run(target):
    place = index_of(target, "COPY /opt/trimflow .")
    after = {each.keyword for each in DOCKERFILE.stages[target].instructions[place + 1 :]}
    assert after == {"USER", "ARG", "LABEL"}, "a change of the code or commit must not cost more than its own layer"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_has_no_compiler_and_none_of_its_stages_has_all_the_code(target):
    for stage in DOCKERFILE.lineage(target):
        assert stage.name not in ("build", "code", f"build-{target}")
    code = {stage for stage, each in INSTRUCTIONS if each.keyword == "COPY" and each.text == ". ."}
    assert code == {"code"}


@pytest.mark.parametrize("target", TARGETS)
def test_what_changes_less_often_comes_first(target):
    stage = f"build-{target}"
    order = [
        f"COPY requirements/{target}.lock",
        f"RUN scripts/setup_venv.sh {target}",
        "COPY requirements/horovod.lock",
        "COPY scripts/install_horovod.sh",
        f"RUN scripts/install_horovod.sh {target}",
    ]
    places = [index_of(stage, start) for start in order]
    assert places == sorted(places)
    assert places[-1] == len(DOCKERFILE.stages[stage].instructions) - 1


def test_installations_have_all_the_files_of_ours_that_they_read():
    for target in TARGETS:
        copies = [each.words for stage in DOCKERFILE.lineage(f"build-{target}") for each in found("COPY", [stage])]
        copied = {word for words in copies for word in words[:-1]}
        for name in ("setup_venv.sh", "install_horovod.sh"):
            text = (ROOT / "scripts" / name).read_text().replace("$1.lock", f"{target}.lock")
            text = re.sub(r"^ *#.*", "", text, flags=re.M)
            named = set(re.findall(r"(?:scripts|requirements)/[a-z0-9_]+\.[a-z]+", text))
            assert named, "the pattern must find what they name"
            assert named <= copied, f"{name} needs {named - copied}"


def test_what_is_copied_is_there_and_is_sent_to_the_engine():
    files = context_files()
    for stage, each in INSTRUCTIONS:
        if each.keyword != "COPY":
            continue
        if "from" in each.options:
            assert each.options["from"] in list(DOCKERFILE.stages)[: list(DOCKERFILE.stages).index(stage)]
            continue
        for source in each.words[:-1]:
            assert any(Path(source) in (file, *file.parents) for file in files), f"line {each.line}: {source}"


def test_packages_come_without_the_recommended_ones_and_leave_no_lists():
    for each in found("RUN"):
        if "apt-get" in each.text:
            assert each.text.startswith("apt-get update && apt-get install --yes --no-install-recommends ")
            assert "&& rm -rf /var/lib/apt/lists/*" in each.text
    assert sum("apt-get" in each.text for each in found("RUN")) == 2


def test_caches_stay_out_of_the_layers():
    for each in found("RUN"):
        if "scripts/" in each.text:
            assert each.options["mount"] == "type=cache,target=/root/.cache"


def test_every_run_step_is_a_shell_command():
    for each in found("RUN"):
        checked = subprocess.run(["sh", "-n", "-c", each.text], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, f"line {each.line}: {checked.stderr}"


def test_nothing_secret_is_put_into_an_image():
    for stage, each in INSTRUCTIONS:
        assert each.keyword != "ADD", "ADD fetches and unpacks what nobody checks"
        if each.keyword in ("ARG", "ENV"):
            assert not re.search(r"pass|secret|token|key|credential|index_url", each.text, re.I), (stage, each)
    # Made by openssh-server's installation, they would be the same in every container.
    for each in found("RUN"):
        assert "openssh-server" not in each.text or "rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_*" in each.text


@pytest.mark.parametrize("target", TARGETS)
def test_an_images_venv_is_used_whatever_gpus_it_runs_with(target):
    settings = [word for each in found("ENV", [DOCKERFILE.stages[target]]) for word in each.words]
    assert f"TRIMFLOW_VARIANT={target}" in settings
    source = f'source "{ROOT}/scripts/lib.sh"; venv_variant ""; venv_variant "0, 1, 2, 3"'
    for given, answers in [({}, ["cpu", "gpu"]), ({"TRIMFLOW_VARIANT": target}, [target, target])]:
        environment = {name: value for name, value in os.environ.items() if name != "TRIMFLOW_VARIANT"} | given
        shell = subprocess.run(["bash", "-c", source], env=environment, capture_output=True, text=True, check=True)
        assert shell.stdout.split() == answers


@pytest.mark.parametrize("target", TARGETS)
def test_the_commit_is_a_label(target):
    label = found("LABEL", [DOCKERFILE.stages[target]])[-1]
    assert "org.opencontainers.image.revision=${COMMIT}" in shlex.split(label.text)
    assert index_of(target, "ARG COMMIT=unknown") < index_of(target, "LABEL")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout: its files cannot be listed")
def test_all_code_of_the_repository_is_sent_to_the_engine_and_nothing_else():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    # Those that are not in the index yet as well.
    others = ["git", "ls-files", "-z", "--others", "--exclude-standard"]
    listed += subprocess.run(others, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    outside = ("tests", "benchmarks", "docs", ".ci")
    needed = {
        Path(name)
        for name in listed.split("\0")
        if name.endswith((".py", ".sh", ".lock", ".yaml"))
        and not name.startswith(tuple(f"{each}/" for each in outside))
    }
    needed = {name for name in needed if (ROOT / name).exists()}
    sent = set(context_files())
    assert needed <= sent
    assert not {name.parts[0] for name in sent} & {".git", ".venv", "runs", "models", "logs", "path.conf", *outside}


@pytest.mark.parametrize("name", ["path.conf", ".env", "id_rsa", "photos/cat.png", "runs/x/model.keras", ".git/config"])
def test_what_users_keep_in_their_checkout_is_not_sent(name):
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert is_ignored(Path(name), patterns)


def test_dockerignores_last_matching_pattern_decides():
    patterns = ["*", "!kept", "**/__pycache__", "**/*.pyc"]
    assert not is_ignored(Path("kept/a/b.py"), patterns)
    assert is_ignored(Path("kept/a/__pycache__/b.py"), patterns)
    assert is_ignored(Path("kept/b.pyc"), patterns)
    assert is_ignored(Path("other/kept"), patterns)


def sshd_settings() -> dict[str, str]:
    lines = (ROOT / "docker/sshd_config").read_text().splitlines()
    return dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))


def test_sshd_needs_no_rights_of_root():
    settings = sshd_settings()
    assert int(settings["Port"]) > 1023
    assert settings["PidFile"] == "none"
    assert settings["HostKey"] == "/home/trimflow/.ssh/id_rsa"
    assert "UsePAM" not in settings, "its default is no"


def test_ssh_only_lets_the_jobs_key_in():
    settings = sshd_settings()
    assert settings["PasswordAuthentication"] == settings["KbdInteractiveAuthentication"] == "no"
    assert settings["AuthorizedKeysFile"] == "/home/trimflow/.ssh/authorized_keys"


def test_ssh_connects_to_sshds_port():
    text = (ROOT / "docker/ssh_config").read_text()
    assert f"\n    Port {sshd_settings()['Port']}\n" in text
