//! The keys of both doors: our certificate, the authorities that a peer's must be from, how the master is dialled, the token. They are read
//! from files at the start, and anew when these change or when somebody asks for it (SIGHUP). What is being said over a
//! connection goes on under the keys that it began with; the next one has the new ones.
//!
//! Decides nothing about callers: that is [`super::listener`]'s. No key leaves this room, and none is in an error.

mod certificate;
mod files;
mod tls;
mod token;
mod watched;

use std::{
    convert::Infallible,
    future::pending,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use log::info;
use thiserror::Error;
use tokio::{sync::Notify, time::interval};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::codegen::http::HeaderValue;

pub(super) use self::certificate::Certificate;
use self::{
    certificate::Remaining,
    tls::Sides,
    token::Tokens,
    watched::{Occasion, Watched},
};
use crate::{
    domain::text::escape,
    ports::clock::{Clock, SystemClock},
};

/// Time between two looks at the files.
const LOOK: Duration = Duration::from_secs(5);

/// Bytes of a path that stand in an error.
const SHOWN: usize = 1_024;

/// A flag and the file that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The flag, for errors.
    pub flag: &'static str,
    /// The file.
    pub path: PathBuf,
}

/// How the master is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dial {
    /// In clear.
    #[default]
    Clear,
    /// By TLS, with its name checked.
    Tls,
}

/// The files of the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFiles {
    /// Our certificate with its chain, and its key. The listener speaks TLS with it, and the master is shown it.
    pub identity: Option<(NamedFile, NamedFile)>,
    /// The authorities. Callers must show a certificate of one of them, and so must the master.
    pub authorities: Option<NamedFile>,
    /// How the master is called; without authorities of our own the machine's count.
    pub dial: Dial,
    /// The token that callers must show and the master is shown, and how long a token is still good after another has replaced it.
    pub token: Option<(NamedFile, Duration)>,
}

/// Why keys cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The system does not give the file.
    #[error("{} '{}' cannot be read: {source}", file.flag, shown(file))]
    Unreadable {
        /// The file.
        file: NamedFile,
        /// The system's error.
        source: io::Error,
    },
    /// The file's content, or its mode, will not do.
    #[error("{} '{}' {complaint}", file.flag, shown(file))]
    Unusable {
        /// The file.
        file: NamedFile,
        /// The end of a sentence that starts with the file.
        complaint: String,
    },
    /// The machine has no authorities that the master's certificate could be from.
    #[error(
        "--master-tls finds no authorities on this machine ({0}); give --tls-ca the file of the master's"
    )]
    NoAuthorities(String),
}

fn shown(file: &NamedFile) -> String {
    escape(&file.path.to_string_lossy(), SHOWN)
}

impl KeyError {
    /// Whether the system denies access to the file.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// The keys of both doors, as the files have them at the moment.
pub struct Keys {
    tls: Option<Watched<Sides>>,
    token: Option<Tokens>,
    clock: Arc<dyn Clock>,
    /// Rings when somebody wants the files to be read again.
    asked: Notify,
}

impl Default for Keys {
    /// No keys: both doors are in clear.
    fn default() -> Self {
        Self {
            tls: None,
            token: None,
            clock: Arc::new(SystemClock),
            asked: Notify::new(),
        }
    }
}

impl Keys {
    /// Reads the files, and says in the log what they hold.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn open(files: KeyFiles, clock: Arc<dyn Clock>) -> Result<Self, KeyError> {
        let token = files.token.clone();
        let token = token.map(|(file, overlap)| Tokens::open(file, overlap));
        let needs_none = files.identity.is_none() && files.dial == Dial::Clear;
        let tls = match needs_none {
            true => None,
            false => Some(tls::watched(files)?),
        };
        let keys = Self {
            tls,
            token: token.transpose()?,
            clock,
            asked: Notify::new(),
        };
        keys.say_what_is_used();
        Ok(keys)
    }

    /// The TLS of connections that callers open; `None`: they are in clear.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        let sides = self.tls.as_ref()?.get();
        sides.listening.clone().map(TlsAcceptor::from)
    }

    /// The TLS of connections to the master; `None`: they are in clear.
    pub(super) fn connector(&self) -> Option<TlsConnector> {
        let sides = self.tls.as_ref()?.get();
        sides.dialling.clone().map(TlsConnector::from)
    }

    /// Whether a call with this `authorization` may come in.
    pub(super) fn admit(&self, authorization: Option<&HeaderValue>) -> bool {
        let tokens = self.token.as_ref();
        tokens.is_none_or(|tokens| tokens.admit(authorization))
    }

    /// The header that the master is shown with every call.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        Some(self.token.as_ref()?.shown())
    }

    /// Reads all files again, whether they look changed or not. Returns at once.
    pub fn read_again(&self) {
        self.asked.notify_one();
    }

    /// Looks at the files every `LOOK`, and when somebody asks, for ever.
    pub(super) async fn watch(self: Arc<Self>) -> Infallible {
        if self.tls.is_none() && self.token.is_none() {
            return pending().await;
        }
        let mut looks = interval(LOOK);
        looks.tick().await;
        let mut said = self.remaining();
        loop {
            let occasion = tokio::select! {
                () = self.asked.notified() => Occasion::Asked,
                _ = looks.tick() => Occasion::Look,
            };
            let this = Arc::clone(&self);
            // A file system that hangs costs this look, and no call.
            let looked = tokio::task::spawn_blocking(move || this.look(occasion)).await;
            if looked.unwrap_or_default() {
                self.say_what_is_used();
                said = self.remaining();
            }
            said = self.say_what_remains(said);
        }
    }

    /// Looks at the files; says whether there are other certificates now.
    fn look(&self, occasion: Occasion) -> bool {
        if let Some(tokens) = &self.token {
            tokens.look(occasion);
        }
        let tls = self.tls.as_ref();
        tls.is_some_and(|tls| tls.look(occasion).is_some())
    }

    fn say_what_is_used(&self) {
        if self.token.is_some() {
            info!(
                "callers must show the token of --token-file, and so does this worker to its master"
            );
        }
        let Some(tls) = &self.tls else {
            return;
        };
        let sides = tls.get();
        for line in sides.lines() {
            info!("{line}");
        }
        if let Some(certificate) = &sides.certificate {
            certificate.remaining(self.clock.now()).say(certificate);
        }
    }

    fn remaining(&self) -> Option<Remaining> {
        let sides = self.tls.as_ref()?.get();
        let certificate = sides.certificate.as_ref()?;
        Some(certificate.remaining(self.clock.now()))
    }

    /// The time until which our certificate is good; `None`: there is none.
    #[must_use]
    pub fn certificate_until(&self) -> Option<SystemTime> {
        let sides = self.tls.as_ref()?.get();
        Some(sides.certificate.as_ref()?.until())
    }

    /// How long our certificate is good, in words, and how much that matters; `None`: there is none.
    #[must_use]
    pub fn certificate_remains(&self) -> Option<(log::Level, String)> {
        let sides = self.tls.as_ref()?.get();
        let certificate = sides.certificate.as_ref()?;
        let remaining = certificate.remaining(self.clock.now());
        Some((remaining.level(), remaining.words(certificate)))
    }

    /// Says how long our certificate is still good: once a day where that is little, and once when it is over.
    fn say_what_remains(&self, said: Option<Remaining>) -> Option<Remaining> {
        let remaining = self.remaining();
        if let (Some(remaining), Some(tls)) = (remaining, &self.tls)
            && remaining.is_news_after(said)
            && let Some(certificate) = &tls.get().certificate
        {
            remaining.say(certificate);
        }
        remaining
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_changes_is_read_again_without_a_word() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "first").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let file = NamedFile {
            flag: "--token-file",
            path: path.clone(),
        };
        let files = KeyFiles {
            token: Some((file, Duration::ZERO)),
            ..KeyFiles::default()
        };
        let keys = Arc::new(Keys::open(files, Arc::new(SystemClock)).unwrap());
        let admits = |token| keys.admit(Some(&HeaderValue::from_static(token)));
        let watching = tokio::spawn(Arc::clone(&keys).watch());
        assert!(admits("Bearer first") && !admits("Bearer second"));

        fs::write(&path, "second").unwrap();
        while !admits("Bearer second") {
            tokio::time::advance(LOOK).await;
        }

        assert!(!admits("Bearer first"), "there is no overlap");
        assert_eq!(keys.authorization().unwrap(), "Bearer second");
        watching.abort();
    }
}
