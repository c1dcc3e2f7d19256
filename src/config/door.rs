//! The flags about who may come in by the port, and how the worker shows itself; and which of these flags go together.

use std::{ffi::OsStr, path::PathBuf, time::Duration};

use super::{
    DAY, ListenAddress,
    amount::{Range, read_time},
    args::RunArgs,
    check::Check,
};
use crate::domain::callers::{AllowFrom, MasterNames};

/// Who may come in, and how the worker shows itself. The files are not read here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorConfig {
    /// The addresses that may connect.
    pub allow_from: AllowFrom,
    /// The files of our certificate and of its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The file of the authorities of whom a peer must show a certificate.
    pub authorities: Option<PathBuf>,
    /// Whether the master is called by TLS.
    pub dial: MasterDial,
    /// The names of which a caller's certificate must have one before it may change something.
    pub master_names: MasterNames,
    /// The token that callers must show; `None`: none.
    pub token: Option<TokenConfig>,
}

/// The token that callers must show, and the master is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    /// The file that it is in; it is nowhere else.
    pub file: PathBuf,
    /// How long a token is still good after another has replaced it.
    pub overlap: Duration,
    /// Whether it goes over connections in clear.
    pub way: TokenWay,
}

/// Whether a token goes over connections in clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenWay {
    /// It goes over TLS alone, on both sides.
    Hidden,
    /// It goes over a connection in clear, on one side at least, as the operator wanted it.
    InClear,
}

/// How the master is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MasterDial {
    /// In clear, as the existing master wants it.
    Clear,
    /// By TLS.
    Tls,
}

impl DoorConfig {
    /// Whether strangers may ask for something: no caller has to show who it is, and every address may connect.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.allow_from.is_open() && !self.asks_for_certificates() && self.token.is_none()
    }

    /// Whether the worker has a certificate, and still strangers may ask for something.
    pub(super) fn proves_nothing(&self) -> bool {
        self.identity.is_some() && self.is_open()
    }

    /// Whether every caller has to show who it is.
    #[must_use]
    pub fn asks_for_proof(&self) -> bool {
        self.asks_for_certificates() || self.token.is_some()
    }

    fn asks_for_certificates(&self) -> bool {
        self.identity.is_some() && self.authorities.is_some()
    }
}

/// Reads all these flags.
pub(super) fn door(args: &RunArgs, check: &mut Check) -> Option<DoorConfig> {
    let allow_from = check.value("--allow-from", &args.allow_from, str::parse::<AllowFrom>);
    let certificate = file("--tls-cert", args.tls_cert.as_deref(), check);
    let key = file("--tls-key", args.tls_key.as_deref(), check);
    let authorities = file("--tls-ca", args.tls_ca.as_deref(), check);
    let master_tls = check.switch("--master-tls", &args.master_tls);
    let names = args.allow_master_names.iter();
    let names: Option<Vec<_>> = names
        .map(|name| check.value("--allow-master-name", name, MasterNames::read))
        .collect();
    let token = file("--token-file", args.token_file.as_deref(), check);
    let overlap = check.value("--token-overlap", &args.token_overlap, |text| {
        read_time(text, Range::new(Duration::ZERO, DAY))
    });
    let in_clear = check.switch("--token-in-clear", &args.token_in_clear);
    let (overlap, in_clear) = (overlap?, in_clear?);
    let mut door = DoorConfig {
        allow_from: allow_from?,
        identity: identity(certificate?, key?, check)?,
        authorities: authorities?,
        dial: match master_tls? {
            true => MasterDial::Tls,
            false => MasterDial::Clear,
        },
        master_names: MasterNames::new(names?),
        token: None,
    };
    let way = match door.identity.is_some() && door.dial == MasterDial::Tls {
        true => TokenWay::Hidden,
        false => TokenWay::InClear,
    };
    door.token = token?.map(|file| TokenConfig { file, overlap, way });
    let fits = fits(&door, check) && (in_clear || token_is_hidden(&door, check));
    fits.then_some(door)
}

/// The address for HTTP: on this machine, or for callers who show who they are. The outer option is `None` after a mistake, the
/// inner one where there is no such address.
pub(super) fn http(
    address: Option<Option<ListenAddress>>,
    door: Option<&DoorConfig>,
    check: &mut Check,
) -> Option<Option<ListenAddress>> {
    let Some(address) = address else {
        return Some(None);
    };
    let (address, door) = (address?, door?);
    if address.is_loopback() || door.asks_for_proof() {
        return Some(Some(address));
    }
    let sentence = format!(
        "--http {address} can be reached from other machines: give --token-file, or --tls-cert with --tls-ca, so that callers show \
         who they are, or listen on this machine alone (--http 127.0.0.1:9100)"
    );
    check.unsupported("--http", sentence);
    None
}

/// The certificate and its key, which go together, or neither. The outer option is `None` after a mistake.
fn identity(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    check: &mut Check,
) -> Option<Option<(PathBuf, PathBuf)>> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Some(Some((certificate, key))),
        (None, None) => Some(None),
        (Some(_), None) => {
            let sentence = "--tls-cert is of no use without its key; give --tls-key FILE too";
            check.unsupported("--tls-cert", sentence.to_owned());
            None
        }
        (None, Some(_)) => {
            let sentence =
                "--tls-key is of no use without its certificate; give --tls-cert FILE too";
            check.unsupported("--tls-key", sentence.to_owned());
            None
        }
    }
}

/// Refuses a flag that has no effect without another: somebody would take the door for closed.
fn fits(door: &DoorConfig, check: &mut Check) -> bool {
    let mut fits = true;
    let mut refuse = |name, sentence: &str| {
        check.unsupported(name, sentence.to_owned());
        fits = false;
    };
    if door.authorities.is_some() && door.identity.is_none() && door.dial == MasterDial::Clear {
        refuse(
            "--tls-ca",
            "--tls-ca is of no use without TLS; give --tls-cert FILE --tls-key FILE (callers must show a certificate then), --master-tls, or both",
        );
    }
    if !door.master_names.is_empty() && !door.asks_for_certificates() {
        refuse(
            "--allow-master-name",
            "--allow-master-name asks for a name in the caller's certificate, and nobody is asked for one; give --tls-cert FILE --tls-key FILE --tls-ca FILE too",
        );
    }
    fits
}

/// Refuses a token that would be sent in clear: whoever sees it has it.
fn token_is_hidden(door: &DoorConfig, check: &mut Check) -> bool {
    let Some(TokenWay::InClear) = door.token.as_ref().map(|token| token.way) else {
        return true;
    };
    let missing = match (&door.identity, door.dial) {
        (None, MasterDial::Clear) => "give --tls-cert FILE --tls-key FILE and --master-tls too",
        (None, MasterDial::Tls) => "callers would; give --tls-cert FILE --tls-key FILE too",
        (Some(_), _) => "this worker would, to its master; give --master-tls too",
    };
    let sentence = format!(
        "--token-file without TLS: the token would be sent in clear, and whoever sees it has it; {missing}, or --token-in-clear if that is meant"
    );
    check.unsupported("--token-file", sentence);
    false
}

/// A file that may be given. The outer option is `None` after a mistake, the inner one where none is given.
fn file(name: &'static str, given: Option<&OsStr>, check: &mut Check) -> Option<Option<PathBuf>> {
    match given {
        None => Some(None),
        Some(file) => check.path(name, file, "file").map(Some),
    }
}
