//! Who may come in by the port, and how the worker shows itself: the flags of the closed doors, and which of them go together.

use std::{ffi::OsStr, path::PathBuf};

use super::{args::RunArgs, check::Check};
use crate::domain::callers::{AllowFrom, MasterNames};

/// See the module. Nothing is read of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorConfig {
    /// By address.
    pub allow_from: AllowFrom,
    /// Our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The authorities of whom a peer must show a certificate.
    pub authorities: Option<PathBuf>,
    /// How the master is dialled.
    pub dial: MasterDial,
    /// Whose certificate may change something.
    pub master_names: MasterNames,
}

/// How the master is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MasterDial {
    /// In clear, as the existing master wants it.
    Clear,
    /// By TLS.
    Tls,
}

impl DoorConfig {
    /// Whether strangers get to ask for something: nobody has to show who he is, and every address may connect.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.allow_from.is_open() && !self.asks_for_certificates()
    }

    fn asks_for_certificates(&self) -> bool {
        self.identity.is_some() && self.authorities.is_some()
    }
}

/// Reads all of it.
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
    let door = DoorConfig {
        allow_from: allow_from?,
        identity: identity(certificate?, key?, check)?,
        authorities: authorities?,
        dial: match master_tls? {
            true => MasterDial::Tls,
            false => MasterDial::Clear,
        },
        master_names: MasterNames::new(names?),
    };
    fits(&door, check).then_some(door)
}

/// The two that go together, or neither.
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

/// What is given without what it works on is a door that somebody takes for closed.
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

/// A file that may be given; `None`: it is none.
fn file(name: &'static str, given: Option<&OsStr>, check: &mut Check) -> Option<Option<PathBuf>> {
    match given {
        None => Some(None),
        Some(file) => check.path(name, file, "file").map(Some),
    }
}
