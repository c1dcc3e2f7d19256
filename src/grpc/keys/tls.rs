//! The TLS settings of both sides, made of the files: rustls with ring, TLS 1.2 and 1.3, HTTP/2 offered. Nothing is resumed: in
//! every connection each side proves anew who it is, by the certificates that count at that moment.

use std::sync::Arc;

use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};

use super::{
    Certificate, Dial, KeyError, KeyFiles, NamedFile,
    files::{self, Secrecy},
    watched::Watched,
};

/// The protocol's name in the handshake: grpc-go hangs up on a peer that does not offer it.
const HTTP_2: &[u8] = b"h2";

/// The TLS settings of both sides.
pub(super) struct Sides {
    /// For connections that callers open.
    pub(super) listening: Option<Arc<ServerConfig>>,
    /// For calls to the master.
    pub(super) dialling: Option<Arc<ClientConfig>>,
    /// Our own certificate.
    pub(super) certificate: Option<Certificate>,
    /// The authorities that a peer's certificate must be from.
    authorities: Authorities,
}

/// The authorities that a peer's certificate must be from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Authorities {
    /// This many of `--tls-ca`.
    Given(usize),
    /// This many of the machine's.
    OfTheMachine(usize),
    /// None: no peer is asked for a certificate.
    None,
}

/// Our certificate and its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// The settings, made of the files now and again when those change.
pub(super) fn watched(files: KeyFiles) -> Result<Watched<Sides>, KeyError> {
    let (certificate, key) = files.identity.clone().unzip();
    let all = [certificate, key, files.authorities.clone()];
    Watched::new(
        "certificates",
        all.into_iter().flatten().collect(),
        move || Sides::read(&files),
    )
}

impl Sides {
    fn read(files: &KeyFiles) -> Result<Self, KeyError> {
        let identity = files.identity.as_ref().map(read_identity).transpose()?;
        let given = files.authorities.as_ref();
        let given = given.map(read_authorities).transpose()?;
        let certificate = identity.as_ref().and_then(|identity| {
            let first = identity.chain.first()?;
            Certificate::read(first)
        });
        let listening = match (&files.identity, &identity) {
            (Some((file, _)), Some(identity)) => {
                let config = listening(identity, given.as_ref());
                Some(config.map_err(|error| unfit(file, &error))?)
            }
            _ => None,
        };
        let mut authorities = match &given {
            Some(given) => Authorities::Given(given.len()),
            None => Authorities::None,
        };
        let dialling = match (files.dial, given) {
            (Dial::Clear, _) => None,
            (Dial::Tls, Some(given)) => Some(dialling(files, identity, given)?),
            (Dial::Tls, None) => {
                let machine = authorities_of_the_machine()?;
                authorities = Authorities::OfTheMachine(machine.len());
                Some(dialling(files, identity, machine)?)
            }
        };
        Ok(Self {
            listening,
            dialling,
            certificate,
            authorities,
        })
    }

    /// The settings in words for the log, one sentence each.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.listening.is_some() {
            lines.push(match self.authorities {
                Authorities::Given(count) => format!(
                    "callers come in by TLS alone, and must show a certificate of one of the {count} authorities of --tls-ca"
                ),
                Authorities::OfTheMachine(_) | Authorities::None => {
                    "callers come in by TLS alone; nobody is asked for a certificate (--tls-ca)".to_owned()
                }
            });
        }
        if self.dialling.is_some() {
            let ours = match self.certificate {
                Some(_) => "is shown ours",
                None => "is shown none of ours (--tls-cert)",
            };
            let whose = match self.authorities {
                Authorities::Given(count) => format!("the {count} authorities of --tls-ca"),
                Authorities::OfTheMachine(count) => format!("this machine's {count} authorities"),
                Authorities::None => "no authority".to_owned(),
            };
            lines.push(format!(
                "the master is called by TLS; its certificate must be for its name and by one of {whose}, and it {ours}"
            ));
        }
        lines
    }
}

fn listening(
    identity: &Identity,
    authorities: Option<&Arc<RootCertStore>>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match authorities {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(authorities), provider());
            let verifier = verifier
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn dialling(
    files: &KeyFiles,
    identity: Option<Identity>,
    authorities: Arc<RootCertStore>,
) -> Result<Arc<ClientConfig>, KeyError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of these versions")
        .with_root_certificates(authorities);
    let mut config = match (identity, &files.identity) {
        (Some(Identity { chain, key }), Some((file, _))) => {
            let config = builder.with_client_auth_cert(chain, key);
            config.map_err(|error| unfit(file, &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read_identity((certificate, key): &(NamedFile, NamedFile)) -> Result<Identity, KeyError> {
    let chain = certificates(certificate)?;
    let bytes = files::read(key, Secrecy::Secret)?;
    // The reader's own words would repeat what is in the file.
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        files::unusable(
            key,
            "holds no private key in PEM that can be used without a password",
        )
    })?;
    Ok(Identity { chain, key })
}

fn read_authorities(file: &NamedFile) -> Result<Arc<RootCertStore>, KeyError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store
            .add(certificate)
            .map_err(|error| unfit(file, &error))?;
    }
    Ok(Arc::new(store))
}

fn certificates(file: &NamedFile) -> Result<Vec<CertificateDer<'static>>, KeyError> {
    let bytes = files::read(file, Secrecy::Public)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(files::unusable(file, "holds no certificate in PEM")),
    }
}

/// The machine's authorities. Some may be broken; those that can be read count.
fn authorities_of_the_machine() -> Result<Arc<RootCertStore>, KeyError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found.errors.first().map(ToString::to_string);
        return Err(KeyError::NoAuthorities(
            why.unwrap_or_else(|| "it has none".to_owned()),
        ));
    }
    Ok(Arc::new(store))
}

fn unfit(file: &NamedFile, error: &rustls::Error) -> KeyError {
    match error {
        rustls::Error::InconsistentKeys(_) => files::unusable(
            file,
            "is not for the key of --tls-key; give the two that belong together",
        ),
        error => files::unusable(file, format!("cannot be used: {error}")),
    }
}
