//! The token: what callers show and what the master is shown. It stands in the file and in this memory alone: no log, no error
//! and no `Debug` has it. Compared by its digest, in a time that does not tell how much of it was right.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tokio::time::Instant;
use tonic::codegen::http::HeaderValue;

use super::{
    KeyError, NamedFile,
    files::{self, Secrecy},
    watched::{Occasion, Watched},
};

/// Bytes of the longest token: calls have 16 KiB for all of their metadata.
const TOKEN_LIMIT: usize = 4_096;

/// How many replaced tokens are good at once; of more, the oldest is not, even within its time.
const OLD: usize = 8;

/// The scheme that stands before a token.
const SCHEME: &str = "bearer";

/// One token.
struct Token {
    digest: [u8; 32],
    /// The header that the master is shown. Marked as a secret, for code that prints headers.
    header: HeaderValue,
}

/// The token in the file, and replaced ones for as long as they are good.
pub(super) struct Tokens {
    newest: Watched<Token>,
    old: Mutex<Vec<Old>>,
    overlap: Duration,
}

struct Old {
    token: Arc<Token>,
    until: Instant,
}

impl Tokens {
    /// Reads the file; a token that is replaced is good for `overlap` more.
    pub(super) fn open(file: NamedFile, overlap: Duration) -> Result<Self, KeyError> {
        let read = file.clone();
        Ok(Self {
            newest: Watched::new("token", vec![file], move || Token::read(&read))?,
            old: Mutex::default(),
            overlap,
        })
    }

    /// The header that the master is shown.
    pub(super) fn shown(&self) -> HeaderValue {
        self.newest.get().header.clone()
    }

    /// Whether a call with this `authorization` may come in.
    pub(super) fn admit(&self, authorization: Option<&HeaderValue>) -> bool {
        let Some(shown) = authorization.and_then(token_of) else {
            return false;
        };
        let digest = digest(shown);
        let now = Instant::now();
        let mut is_one = self.newest.get().is(&digest);
        for old in self.old().iter().filter(|old| old.until > now) {
            is_one |= old.token.is(&digest);
        }
        is_one.into()
    }

    /// Reads the file again if the occasion asks for it; says whether there is another token now. Blocks.
    pub(super) fn look(&self, occasion: Occasion) -> bool {
        // The present token is put among the old ones first: there is no moment at which it is neither.
        let before = self.newest.get();
        self.keep(&before);
        let is_changed = self.newest.look(occasion).is_some()
            && !bool::from(before.is(&self.newest.get().digest));
        if !is_changed {
            self.old().retain(|old| !Arc::ptr_eq(&old.token, &before));
        }
        is_changed
    }

    fn keep(&self, token: &Arc<Token>) {
        let now = Instant::now();
        let mut old = self.old();
        old.retain(|old| old.until > now);
        if old.len() >= OLD {
            old.remove(0);
        }
        old.push(Old {
            token: Arc::clone(token),
            until: now + self.overlap,
        });
    }

    fn old(&self) -> MutexGuard<'_, Vec<Old>> {
        self.old.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Token {
    fn read(file: &NamedFile) -> Result<Self, KeyError> {
        let bytes = files::read(file, Secrecy::Secret)?;
        let text = bytes.trim_ascii();
        if text.is_empty() {
            return Err(files::unusable(
                file,
                "is empty; put a token into it, such as the output of: openssl rand -hex 32",
            ));
        }
        if text.len() > TOKEN_LIMIT || !text.iter().all(u8::is_ascii_graphic) {
            return Err(files::unusable(
                file,
                "holds more than one word of at most 4096 printable letters, which a token is",
            ));
        }
        let mut header = HeaderValue::from_bytes(&[b"Bearer ", text].concat())
            .map_err(|_| files::unusable(file, "holds no token"))?;
        header.set_sensitive(true);
        Ok(Self {
            digest: digest(text),
            header,
        })
    }

    fn is(&self, digest: &[u8; 32]) -> Choice {
        self.digest.ct_eq(digest)
    }
}

fn digest(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// The token behind the scheme, whose letters may be large or small.
fn token_of(authorization: &HeaderValue) -> Option<&[u8]> {
    let (scheme, rest) = authorization.as_bytes().split_at_checked(SCHEME.len())?;
    let token = rest.strip_prefix(b" ")?.trim_ascii();
    scheme
        .eq_ignore_ascii_case(SCHEME.as_bytes())
        .then_some(token)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;

    const OVERLAP: Duration = Duration::from_secs(600);

    fn put(folder: &Path, text: &str) -> NamedFile {
        let path = folder.join("token");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        NamedFile {
            flag: "--token-file",
            path,
        }
    }

    fn admits(tokens: &Tokens, authorization: &str) -> bool {
        tokens.admit(Some(&HeaderValue::from_str(authorization).unwrap()))
    }

    #[tokio::test]
    async fn the_whole_token_is_wanted_and_nothing_else_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(put(folder.path(), "s3cret\n"), OVERLAP).unwrap();

        for right in ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret "] {
            assert!(admits(&tokens, right), "{right}");
        }
        for wrong in [
            "",
            "s3cret",
            "Bearer",
            "Bearer ",
            "Bearers3cret",
            "Bearer s3cre",
            "Bearer s3crets",
            "Bearer S3CRET",
            "Basic s3cret",
            "Bearer s3cret s3cret",
        ] {
            assert!(!admits(&tokens, wrong), "{wrong}");
        }
        assert!(!tokens.admit(None));
        assert_eq!(tokens.shown(), "Bearer s3cret");
        assert_eq!(format!("{:?}", tokens.shown()), "Sensitive");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_replaced_is_good_for_the_overlap() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(put(folder.path(), "first"), OVERLAP).unwrap();
        let good = || {
            ["first", "second", "third"].map(|token| admits(&tokens, &format!("Bearer {token}")))
        };

        assert!(!tokens.look(Occasion::Asked), "it is the same");
        put(folder.path(), "second");
        assert!(tokens.look(Occasion::Asked));
        assert_eq!(tokens.shown(), "Bearer second");
        tokio::time::advance(OVERLAP / 2).await;
        put(folder.path(), "third");
        assert!(tokens.look(Occasion::Asked));
        put(folder.path(), "");
        assert!(!tokens.look(Occasion::Asked), "it cannot be used");

        assert_eq!(good(), [true, true, true]);
        tokio::time::advance(OVERLAP / 2).await;
        assert_eq!(good(), [false, true, true]);
        tokio::time::advance(OVERLAP / 2).await;
        assert_eq!(good(), [false, false, true]);
    }

    #[tokio::test]
    async fn a_file_without_a_token_is_refused_and_what_is_in_it_is_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let long = "s3cret".repeat(1_000);
        for (text, words) in [
            ("", "is empty"),
            (" \n", "is empty"),
            ("s3cret other", "more than one word"),
            ("s3cr\u{e9}t", "more than one word"),
            (&long, "more than one word"),
        ] {
            let refused = Tokens::open(put(folder.path(), text), OVERLAP);
            let told = refused.err().unwrap().to_string();
            assert!(told.contains(words), "{told}");
            assert!(
                told.contains("--token-file") && !told.contains("s3cr"),
                "{told}"
            );
        }
    }
}
