//! A throw-away certificate authority and what it signs.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

use crate::tempdir;

/// PEM files in a temporary folder that is removed when the value is dropped.
#[derive(Debug)]
pub struct Tls {
    dir: TempDir,
}

struct Subject<'a> {
    name: &'a str,
    hosts: &'a [&'a str],
    expires_year: i32,
}

impl Tls {
    /// Makes a new authority, a wrong one, and all certificates.
    pub fn new() -> Tls {
        let dir = tempdir::temp_dir();
        let issuer = write_authority(dir.path(), "ca");
        write_authority(dir.path(), "wrong-ca");
        let here: &[&str] = &["localhost", "127.0.0.1", "::1"];
        let subjects = [
            Subject {
                name: "server",
                hosts: here,
                expires_year: 2099,
            },
            Subject {
                name: "client",
                hosts: &[],
                expires_year: 2099,
            },
            Subject {
                name: "expired",
                hosts: here,
                expires_year: 2001,
            },
            Subject {
                name: "wrong-host",
                hosts: &["elsewhere.invalid"],
                expires_year: 2099,
            },
        ];
        for subject in subjects {
            write_certificate(dir.path(), &subject, &issuer);
        }
        Tls { dir }
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// The certificate of an authority that signed nothing.
    pub fn wrong_ca(&self) -> PathBuf {
        self.file("wrong-ca.crt")
    }

    /// For localhost, 127.0.0.1 and ::1.
    pub fn server_cert(&self) -> PathBuf {
        self.file("server.crt")
    }

    /// Key of [`Tls::server_cert`].
    pub fn server_key(&self) -> PathBuf {
        self.file("server.key")
    }

    /// A client's certificate.
    pub fn client_cert(&self) -> PathBuf {
        self.file("client.crt")
    }

    /// Key of [`Tls::client_cert`].
    pub fn client_key(&self) -> PathBuf {
        self.file("client.key")
    }

    /// Like the server's, but expired in 2001.
    pub fn expired_cert(&self) -> PathBuf {
        self.file("expired.crt")
    }

    /// Key of [`Tls::expired_cert`].
    pub fn expired_key(&self) -> PathBuf {
        self.file("expired.key")
    }

    /// For another host only.
    pub fn wrong_host_cert(&self) -> PathBuf {
        self.file("wrong-host.crt")
    }

    /// Key of [`Tls::wrong_host_cert`].
    pub fn wrong_host_key(&self) -> PathBuf {
        self.file("wrong-host.key")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Default for Tls {
    fn default() -> Tls {
        Tls::new()
    }
}

fn write_authority(dir: &Path, name: &str) -> Issuer<'static, KeyPair> {
    let mut params = params(&Subject {
        name,
        hosts: &[],
        expires_year: 2099,
    });
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("a key can be made");
    let cert = params
        .self_signed(&key)
        .expect("a certificate can be signed");
    write(&dir.join(format!("{name}.crt")), &cert.pem());
    Issuer::new(params, key)
}

fn write_certificate(dir: &Path, subject: &Subject<'_>, issuer: &Issuer<'_, KeyPair>) {
    let mut params = params(subject);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    // Nodes of a cluster are servers and clients to one another with the same certificate.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate().expect("a key can be made");
    let cert = params
        .signed_by(&key, issuer)
        .expect("a certificate can be signed");
    write(&dir.join(format!("{}.crt", subject.name)), &cert.pem());
    write(
        &dir.join(format!("{}.key", subject.name)),
        &key.serialize_pem(),
    );
}

fn params(subject: &Subject<'_>) -> CertificateParams {
    let hosts: Vec<String> = subject.hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).expect("the names are valid");
    params
        .distinguished_name
        .push(DnType::CommonName, format!("keyhaul test {}", subject.name));
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(subject.expires_year, 1, 1);
    params
}

fn write(path: &Path, pem: &str) {
    std::fs::write(path, pem).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
