"""Makes a bed a node where the hook is installed, as the roles do it but without Ansible, in a second.

Run as root in a bed. There are two users then, alice (2001) and bob (2002), with homes, keys and rootless podman.
"""

from __future__ import annotations

import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml
from containers import ALICE, SETTINGS, as_user
from jinja2.nativetypes import NativeEnvironment

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles" / "ssh_hook"
PREFIX = Path("/opt/oci-hooks")
HOOKS = Path("/usr/share/containers/oci/hooks.d")
ENROOT_HOOKS = Path("/etc/enroot/hooks.d")
PYTHON = "/usr/bin/python3"
USERS = {"alice": 2001, "bob": 2002}


def call(*command: str | Path, text: str | None = None) -> None:
    subprocess.run(command, check=True, input=text, text=True, stdout=subprocess.DEVNULL)


def make_dev_private() -> None:
    """Give the bed a /dev of its own: a runtime may chown /dev/null, and the tests put a log socket there."""
    layer = Path("/run/hook-test-dev")
    if layer.exists():
        return
    submounts = [
        fields[4]
        for fields in (line.split() for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines())
        if fields[4].startswith("/dev/")
    ]
    for name in ("upper", "work", "merged"):
        (layer / name).mkdir(parents=True, mode=0o755)
    options = f"lowerdir=/dev,upperdir={layer}/upper,workdir={layer}/work"
    call("mount", "-t", "overlay", "-o", options, "overlay", layer / "merged")
    for path in dict.fromkeys(submounts):
        call("mount", "--bind", path, f"{layer}/merged/{path.removeprefix('/dev/')}")
    call("mount", "--rbind", layer / "merged", "/dev")
    os.chown("/dev/null", 0, 0)


def collection(name: str) -> Any:
    """Return a module of plugins/module_utils."""
    plugins = str(ROOT / "plugins")
    if plugins not in sys.path:
        sys.path.append(plugins)
    return importlib.import_module(f"module_utils.{name}")


def template(name: str, **values: object) -> str:
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {
        "quote": shlex.quote,
        "to_json": json.dumps,
    }
    return environment.from_string((ROLE / "templates" / name).read_text(encoding="utf-8")).render(values)


def rendered(data: Any, values: Mapping[str, object]) -> Any:
    """Return data of the role's variables with each text in it rendered, as Ansible does."""
    if isinstance(data, dict):
        return {name: rendered(value, values) for name, value in data.items()}
    if isinstance(data, list):
        return [rendered(value, values) for value in data]
    return NativeEnvironment(undefined=jinja2.StrictUndefined).from_string(data).render(values)


def install_hook() -> None:
    for directory in ("bin", "etc", "dropbear/bin"):
        (PREFIX / directory).mkdir(parents=True, exist_ok=True)
    hook_package = collection("_hook_package")
    top = ROOT / "files" / "hook" / "ssh_hook"
    sources = hook_package.package_sources(top)
    settings = {**SETTINGS, "SSH_KEY_TYPE": "ed25519", "PYTHON_PACKAGES": "/usr/lib/python3/dist-packages"}
    digests = collection("_bytecode").digests(sources)
    hook = hook_package.Hook(str(PREFIX), PYTHON, {name: str(value) for name, value in settings.items()}, digests)
    hook_package.install(hook, sources, check=False)

    variables = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))
    HOOKS.mkdir(parents=True, exist_ok=True)
    values = {
        "ssh_hook__launcher": hook.launcher,
        "ssh_hook__environment": SETTINGS,
        "ssh_hook_stages": ["createRuntime", "poststop"],
        "ssh_hook__asks": variables["ssh_hook__asks"],
    }
    hook_json = json.dumps(rendered(variables["ssh_hook__hook"], values), indent=2)
    (HOOKS / "07-ssh-hook.json").write_text(hook_json, encoding="utf-8")

    ENROOT_HOOKS.mkdir(parents=True, exist_ok=True)
    script = ENROOT_HOOKS / "zz-ocihooks-ssh.sh"
    script.write_text(template("enroot.sh.j2", **values), encoding="utf-8")
    script.chmod(0o755)


def install_dropbear() -> None:
    binaries = PREFIX / "dropbear" / "bin"
    for program in ("dropbearmulti", "scp", "sftp", "sftp-server", "ssh"):
        shutil.copy(ROOT / ".cache" / "hook" / program, binaries)
    (binaries / "dropbearmulti").chmod(0o111)  # as the role has it: nobody reads it, so that nobody traces who runs it
    for name in ("dropbear", "dropbearkey"):
        (binaries / name).unlink(missing_ok=True)
        (binaries / name).symlink_to("dropbearmulti")


def add_users() -> None:
    passwd = ["root:x:0:0:root:/root:/bin/bash\n"]
    for name, uid in USERS.items():
        if subprocess.run(["getent", "passwd", name], stdout=subprocess.DEVNULL, check=False).returncode != 0:
            call("useradd", "--uid", str(uid), "--create-home", "--shell", "/bin/bash", name)
        passwd.append(f"{name}:x:{uid}:{uid}::/home/{name}:/bin/bash\n")
    (PREFIX / "etc" / "passwd").write_text("".join(passwd), encoding="utf-8")
    for name, uid in USERS.items():
        runtime = Path(f"/run/user/{uid}")
        runtime.mkdir(mode=0o700, exist_ok=True)
        os.chown(runtime, uid, uid)
        as_user = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "env", "-i")
        call(*as_user, f"HOME=/home/{name}", "PATH=/usr/bin:/bin", PREFIX / "bin" / "ssh_hook", "keygen")
    root_home = Path("/home/root")  # root's own keys: HOOK_BASE_DIR is the same for all
    root_home.mkdir(mode=0o700, exist_ok=True)
    call("env", "-i", "PATH=/usr/bin:/bin", PREFIX / "bin" / "ssh_hook", "keygen")


def import_images() -> None:
    """Rootless podman cannot read the store of root's images, so alice has two in her own."""
    configuration = Path("/home/alice/.config/containers")
    configuration.mkdir(parents=True, exist_ok=True)
    storage = configuration / "storage.conf"  # instead of the bed's, which names that store
    storage.write_text('[storage]\ndriver = "overlay"\n', encoding="utf-8")
    for path in (configuration.parent, configuration, storage):
        os.chown(path, ALICE, ALICE)
    for image in ("debian", "busybox"):
        with (ROOT / ".cache" / "images" / f"{image}.tar").open("rb") as tar:
            command = as_user(ALICE, "podman", "import", "--quiet", "-", f"localhost/ssh-test/{image}")
            subprocess.run(command, check=True, stdin=tar, stdout=subprocess.DEVNULL)


def main() -> int:
    os.umask(0o022)
    make_dev_private()
    install_hook()
    install_dropbear()
    add_users()
    import_images()
    return 0


if __name__ == "__main__":
    sys.exit(main())
