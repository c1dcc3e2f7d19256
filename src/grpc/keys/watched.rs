//! A value that is made of files, and made again when they change. Files that cannot be used change nothing, and that is said once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::{error, info};

use super::{
    KeyError, NamedFile,
    files::{self, Stamp},
};

/// Why the files are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// It is time for a look: the files are read where they look changed.
    Look,
    /// Somebody asked: the files are read in any case.
    Asked,
}

/// The states of all files.
type Stamps = Vec<Option<Stamp>>;

/// A value and the files that it is made of.
pub(super) struct Watched<T> {
    /// What the value is, for people.
    what: &'static str,
    files: Vec<NamedFile>,
    read: Box<dyn Fn() -> Result<T, KeyError> + Send + Sync>,
    state: Mutex<State<T>>,
}

struct State<T> {
    value: Arc<T>,
    /// The states of the files when the value was made.
    read_at: Stamps,
    /// The states of files that cannot be used, and whether that was said.
    broken: Option<(Stamps, bool)>,
}

impl<T> Watched<T> {
    /// Reads `files` by `read` for the first time.
    pub(super) fn new(
        what: &'static str,
        files: Vec<NamedFile>,
        read: impl Fn() -> Result<T, KeyError> + Send + Sync + 'static,
    ) -> Result<Self, KeyError> {
        let read_at = stamps(&files);
        let value = Arc::new(read()?);
        Ok(Self {
            what,
            files,
            read: Box::new(read),
            state: Mutex::new(State {
                value,
                read_at,
                broken: None,
            }),
        })
    }

    /// The value that is used at this moment.
    pub(super) fn get(&self) -> Arc<T> {
        Arc::clone(&self.state().value)
    }

    /// Reads the files again if the occasion asks for it. Returns the value of before, where another one is used now. Blocks.
    pub(super) fn look(&self, occasion: Occasion) -> Option<Arc<T>> {
        // Taken before the files are read: what is written meanwhile is another state, and is read at the next look.
        let now = stamps(&self.files);
        let is_known = {
            let state = self.state();
            let said = matches!(&state.broken, Some((stamps, true)) if *stamps == now);
            state.read_at == now || said
        };
        if occasion == Occasion::Look && is_known {
            return None;
        }
        match (self.read)() {
            Ok(value) => Some(self.use_from_now_on(value, now)),
            Err(error) => {
                self.complain(occasion, now, &error);
                None
            }
        }
    }

    fn use_from_now_on(&self, value: T, stamps: Stamps) -> Arc<T> {
        let before = {
            let mut state = self.state();
            state.read_at = stamps;
            state.broken = None;
            std::mem::replace(&mut state.value, Arc::new(value))
        };
        info!(
            "{} read again: new connections use what is in the files now",
            self.what
        );
        before
    }

    /// Says why the files cannot be used: at once where somebody asked, else at the second look that finds them so, since certificate
    /// and key are never changed at one moment.
    fn complain(&self, occasion: Occasion, now: Stamps, error: &KeyError) {
        let mut state = self.state();
        let before = state.broken.take();
        let lasts = matches!(&before, Some((stamps, _)) if *stamps == now);
        let says = occasion == Occasion::Asked || lasts;
        state.broken = Some((now, says));
        drop(state);
        if says {
            error!("{error}; the {} of before stays in use", self.what);
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(files: &[NamedFile]) -> Stamps {
    files.iter().map(files::stamp).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_changed_is_read_what_cannot_be_used_changes_nothing_and_is_looked_at_until_it_was_said()
    {
        let folder = tempfile::tempdir().unwrap();
        let file = NamedFile {
            flag: "--x",
            path: folder.path().join("x"),
        };
        let reads = Arc::new(Mutex::new(0));
        fs::write(&file.path, "1").unwrap();
        let (from, counted) = (file.clone(), Arc::clone(&reads));
        let watched = Watched::new("number", vec![file.clone()], move || {
            *counted.lock().unwrap() += 1;
            let bytes = files::read(&from, files::Secrecy::Public)?;
            let text = String::from_utf8(bytes).unwrap();
            let number = text.parse::<u32>();
            number.map_err(|_| files::unusable(&from, "is no number"))
        })
        .unwrap();
        let now = || (*watched.get(), *reads.lock().unwrap());

        assert!(watched.look(Occasion::Look).is_none());
        assert_eq!(now(), (1, 1), "nothing has changed");

        fs::write(&file.path, "22").unwrap();
        assert_eq!(watched.look(Occasion::Look).as_deref(), Some(&1));
        assert_eq!(now(), (22, 2));

        fs::write(&file.path, "none").unwrap();
        for _ in 0..3 {
            assert!(watched.look(Occasion::Look).is_none());
        }
        assert_eq!(
            now(),
            (22, 4),
            "once more to see that it lasts, then no more"
        );

        fs::remove_file(&file.path).unwrap();
        assert!(watched.look(Occasion::Asked).is_none());
        assert_eq!(now(), (22, 5));

        fs::write(&file.path, "333").unwrap();
        assert!(watched.look(Occasion::Look).is_some());
        assert!(
            watched.look(Occasion::Asked).is_some(),
            "because it was asked for"
        );
        assert_eq!(now(), (333, 7));
    }
}
