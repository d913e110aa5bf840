"""Signatures, time stamps of a real authority on loopback (openssl), and keys sealed for one."""

import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import radscore as rs
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from radscore.errors import ArgumentError, StateError
from radscore.evidence.audit import Audit
from radscore.evidence.bundle import write_bundle
from radscore.evidence.verify import verify

from .conftest import KEY, asking, planned, scheme_under

CONFIG = """
[ca]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[signer]
basicConstraints = critical, CA:false
extendedKeyUsage = critical, timeStamping
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[tsa]
default_tsa = here
[here]
serial = {folder}/serial
signer_cert = {folder}/signer.pem
certs = {folder}/signer.pem
signer_key = {folder}/signer.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""


def private(path, kind):
    key = kind.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = path.with_suffix(".pub")
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return path, public


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """The address of a time-stamp authority, and the folder with its root certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("the authority is openssl's")
    folder = tmp_path_factory.mktemp("tsa")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    (folder / "c.cnf").write_text(CONFIG.format(folder=folder))
    (folder / "serial").write_text("01\n")
    for name in ("root", "signer"):
        openssl("genpkey", "-algorithm", "RSA", "-out", f"{name}.key")
        openssl("req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr",
                "-config", "/dev/null")  # fmt: skip
    extra = ["-days", "30", "-extfile", "c.cnf"]
    openssl("x509", "-req", "-in", "root.csr", "-signkey", "root.key", "-extensions", "ca",
            "-out", "root.pem", *extra)  # fmt: skip
    openssl("x509", "-req", "-in", "signer.csr", "-CA", "root.pem", "-CAkey", "root.key",
            "-set_serial", "2", "-extensions", "signer", "-out", "signer.pem", *extra)  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            (folder / "q.tsq").write_bytes(asked)
            if self.path != "/refuse":
                openssl("ts", "-reply", "-config", "c.cnf", "-section", "here", "-queryfile",
                        "q.tsq", "-out", "r.tsr")  # fmt: skip
            data = b"no" if self.path == "/refuse" else (folder / "r.tsr").read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


@pytest.fixture(scope="module")
def witnessed(pools, tmp_path_factory, authority):
    folder = tmp_path_factory.mktemp("witnessed")
    audit = planned(asking("rho-10"), pools, folder / "a")
    signing, _ = private(folder / "alice.pem", Ed25519PrivateKey)
    audit.commit(signing_key=signing, timestamp=authority[0])
    audit.run(rs.Key.from_file(KEY))
    return audit


def test_the_plan_is_signed_and_stamped(witnessed, authority):
    key = rs.Key.from_file(KEY)
    found = verify(witnessed.folder, key, roots=authority[1] / "root.pem")
    assert found.wrong == []
    assert [one for one in found.holds if "the plan is signed by the key" in one]
    assert [one for one in found.holds if "the plan was stamped at 20" in one]
    assert not [one for one in found.unknown if "when the plan was made" in one]
    without = verify(witnessed.folder, key)
    assert [one for one in without.unknown if "give the authority's root certificates" in one]


def test_a_stamp_or_signature_of_another_plan_is_named(witnessed, authority, pools, tmp_path):
    from .test_attacks import forge, lines_of

    other = planned(asking("control"), pools, tmp_path / "other")
    signing, _ = private(tmp_path / "bob.pem", Ed25519PrivateKey)
    other.commit(signing_key=signing, timestamp=authority[0])
    theirs = {one["event"]: one for one in lines_of(other.folder)}
    for event, match in (("signed", "is signed by"), ("timestamp", "that of another hash")):
        entries = lines_of(witnessed.folder)
        before = (witnessed.folder / "log.jsonl").read_bytes()
        entries = [theirs[event] if one["event"] == event else one for one in entries]
        forge(witnessed.folder, entries)
        assert match in " | ".join(verify(witnessed.folder, rs.Key.from_file(KEY)).wrong)
        (witnessed.folder / "log.jsonl").write_bytes(before)


def test_a_stamp_by_an_authority_that_is_not_trusted(witnessed, authority, tmp_path):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other",
         "-keyout", tmp_path / "o.key", "-out", tmp_path / "o.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    found = verify(witnessed.folder, rs.Key.from_file(KEY), roots=tmp_path / "o.pem")
    assert "the time stamp does not hold" in " | ".join(found.wrong)


def test_an_authority_that_refuses_leaves_the_plan_committed(pools, tmp_path, authority):
    audit = planned(asking("rho-10"), pools, tmp_path / "a")
    for url in (f"{authority[0]}/refuse", "http://127.0.0.1:9"):
        with pytest.raises(StateError, match="the time-stamp authority"):
            audit.commit(timestamp=url)
    with pytest.raises(ArgumentError, match="must be the http"):
        audit.commit(timestamp="file:///etc/passwd")
    assert audit.commit()["event"] == "committed"


def test_a_sealed_key_is_read_by_one_alone(finished, tmp_path):
    audit, key = Audit(finished / "plain"), rs.Key.from_file(KEY)
    mine, public = private(tmp_path / "expert.pem", X25519PrivateKey)
    theirs, _ = private(tmp_path / "other.pem", X25519PrivateKey)
    bundle = write_bundle(audit, tmp_path / "b.zip", scheme=scheme_under(key), seal_for=public)
    assert not verify(bundle).recomputed
    assert verify(bundle, private_key=mine).recomputed
    with pytest.raises(StateError, match="sealed for another private key"):
        verify(bundle, private_key=theirs)
    signing, _ = private(tmp_path / "sign.pem", Ed25519PrivateKey)
    with pytest.raises(ArgumentError, match="not an X25519 private key"):
        verify(bundle, private_key=signing)
    with pytest.raises(ArgumentError, match="not a public key"):
        write_bundle(audit, tmp_path / "c.zip", scheme=scheme_under(key), seal_for=KEY)
    assert json.loads((finished / "plain/secret.json").read_bytes())["nonce"]
