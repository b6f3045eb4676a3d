"""What a sweep writes is what node_exporter serves."""

from __future__ import annotations

import re
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from patience import within
from ssh_hook.health import metrics

PATIENCE = 30.0  # seconds


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def served(directory: Path) -> str:
    """Return what node_exporter serves of its textfile collector alone."""
    port = free_port()
    options = [
        "--collector.disable-defaults",
        "--web.disable-exporter-metrics",
        "--collector.textfile",
        f"--collector.textfile.directory={directory}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with subprocess.Popen(
        ["prometheus-node-exporter", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + within(PATIENCE)
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=within(PATIENCE)) as answer:
                        text: str = answer.read().decode()
                        return text
                except OSError:
                    assert time.monotonic() < deadline and process.poll() is None
                    time.sleep(0.1)
        finally:
            process.terminate()


def test_node_exporter_serves_the_numbers_of_a_sweep(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    file = tmp_path / "ssh_hook.prom"
    for _sweep in range(2):
        metrics.update(str(file), 3, 1)
    text = served(tmp_path)
    lines = text.splitlines()
    assert "node_textfile_scrape_error 0" in lines
    written = [line for line in file.read_text(encoding="ascii").splitlines() if not line.startswith("#")]
    for sample in written:
        if not sample.startswith("ssh_hook_sweep_timestamp_seconds"):
            assert sample in lines
    assert "ssh_hook_collected_total 6" in lines
    assert "ssh_hook_sweep_errors_total 2" in lines
    assert any(re.fullmatch(r"ssh_hook_sweep_timestamp_seconds \d\.\d+e\+09", line) for line in lines)
