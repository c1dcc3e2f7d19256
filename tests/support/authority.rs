//! An authority of certificates, made in memory: what it signs lies in files as a worker reads them, or in what the other side
//! of a connection speaks TLS with.
#![allow(dead_code, reason = "every test binary uses a part of it")]
#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails like the test itself"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// See the module.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

/// A certificate and its key.
pub(crate) struct Signed {
    der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(
            DnType::CommonName,
            format!("authority {}", fastrand::u64(..)),
        );
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for these hosts.
    pub(crate) fn sign(&self, hosts: &[&str]) -> Signed {
        self.sign_until(hosts, 2100)
    }

    /// One that is good until the beginning of a year.
    pub(crate) fn sign_until(&self, hosts: &[&str], year: i32) -> Signed {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "one of this test");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Signed {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            key,
        }
    }

    /// Where its certificate lies from now on.
    pub(crate) fn write(&self, folder: &Path) -> PathBuf {
        put(folder, "ca.pem", &self.pem)
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        Arc::new(roots)
    }

    /// What somebody speaks who calls, trusts this authority, and shows `own`.
    pub(crate) fn calling(&self, own: Option<&Signed>) -> Arc<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = vec![own.der.clone()];
                builder
                    .with_client_auth_cert(chain, own.private_key())
                    .unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// What somebody speaks who is called, and asks for certificates of this authority.
    pub(crate) fn called(&self, own: &Signed) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider.clone());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![own.der.clone()], own.private_key())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

impl Signed {
    /// Where certificate and key lie from now on.
    pub(crate) fn write(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let certificate = put(folder, "cert.pem", &self.pem);
        (
            certificate,
            put(folder, "key.pem", &self.key.serialize_pem()),
        )
    }

    /// What it is made of, as it comes over the wire.
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The certificate as it lies in its file.
    pub(crate) fn text(&self) -> String {
        self.pem.clone()
    }

    /// A line of the key as it lies in its file: what nobody may ever repeat.
    pub(crate) fn secret(&self) -> String {
        let text = self.key.serialize_pem();
        text.lines().nth(1).unwrap().to_owned()
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

/// Puts a file in the place of another, as whoever renews certificates does.
pub(crate) fn put(folder: &Path, name: &str, text: &str) -> PathBuf {
    let (new, path) = (folder.join(format!("{name}.new")), folder.join(name));
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&new, &path).unwrap();
    path
}
