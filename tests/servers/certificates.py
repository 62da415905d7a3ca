"""A certificate authority for tests: server certificates, client certificates, TLS contexts.

Role: makes what HTTPS servers and mutual TLS need, on disk in a folder of the test.
Knows nothing of Git or Kubernetes.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both PEM, in memory and on disk."""

    certificate: bytes
    key: bytes
    certificate_file: Path
    key_file: Path


@dataclass(frozen=True, slots=True)
class ServerTLS:
    """What an HTTPS server presents, and whose client certificates it demands.

    Args:
        pair: the server's certificate and key.
        client_ca: PEM file of the authority that client certificates must be signed by; None asks for none.
    """

    pair: KeyPair
    client_ca: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Make the server's TLS context."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pair.certificate_file, self.pair.key_file)
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.client_ca)
        return context


class CertificateAuthority:
    """A private authority; make one with `CertificateAuthority.make(folder)`."""

    def __init__(self, folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._folder = folder
        self._key = key
        self._certificate = certificate
        self._count = 0
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.file = folder / "ca.crt"
        self.file.write_bytes(self.pem)

    @classmethod
    def make(cls, folder: Path, name: str = "gitwright test authority") -> CertificateAuthority:
        """Create a self-signed authority whose files lie in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(folder, key, certificate)

    def server_tls(self, *names: str, client_ca: Path | None = None) -> ServerTLS:
        """Issue a server certificate for host names and addresses."""
        alternatives: list[x509.GeneralName] = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        pair = self._issue(names[0], alternatives, ExtendedKeyUsageOID.SERVER_AUTH)
        return ServerTLS(pair, client_ca)

    def client_cert(self, name: str = "gitwright") -> KeyPair:
        """Issue a client certificate."""
        return self._issue(name, [], ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(
        self, name: str, alternatives: list[x509.GeneralName], usage: x509.ObjectIdentifier
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self._certificate.subject, key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        self._count += 1
        certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)
        key_pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        certificate_file = self._folder / f"{self._count}.crt"
        key_file = self._folder / f"{self._count}.key"
        certificate_file.write_bytes(certificate_pem)
        key_file.write_bytes(key_pem)
        key_file.chmod(0o600)
        return KeyPair(certificate_pem, key_pem, certificate_file, key_file)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
    )
