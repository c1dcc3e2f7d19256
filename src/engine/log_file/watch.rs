//! Tells when something happens in a folder. One inotify instance and one thread serve all folders: instances are few on a
//! machine (128 for a user), and a watch that fires once costs a busy container nothing while it is read.

use std::{
    collections::HashMap,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread,
};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::sync::oneshot::{self, Receiver, Sender};

/// Bytes of events that are read at once.
const EVENTS: usize = 4_096;

type Waiting = Arc<Mutex<HashMap<i32, Vec<Sender<()>>>>>;

/// The inotify instance, and who waits, by the kernel's number of the watch.
struct Watcher {
    inotify: Arc<OwnedFd>,
    waiting: Waiting,
}

/// A receiver that ends, in whichever way, when something is written or renamed in the folder from now on; `None` where the kernel
/// cannot tell.
pub(super) fn next_change(folder: &Path) -> Option<Receiver<()>> {
    static WATCHER: OnceLock<Option<Watcher>> = OnceLock::new();
    let watcher = WATCHER.get_or_init(|| Watcher::start().ok()).as_ref()?;
    watcher.watch(folder).ok()
}

impl Watcher {
    fn start() -> std::io::Result<Self> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC)?);
        let waiting = Waiting::default();
        let (source, told) = (Arc::clone(&inotify), Arc::clone(&waiting));
        thread::Builder::new()
            .name("log files".into())
            .spawn(move || tell(&source, &told))?;
        Ok(Self { inotify, waiting })
    }

    fn watch(&self, folder: &Path) -> std::io::Result<Receiver<()>> {
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::ONESHOT
            | WatchFlags::ONLYDIR;
        let (sender, receiver) = oneshot::channel();
        // Locked before the watch is added: its event may come at once.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let number = inotify::add_watch(&self.inotify, folder, flags)?;
        let its = waiting.entry(number).or_default();
        its.retain(|waiting| !waiting.is_closed());
        its.push(sender);
        Ok(receiver)
    }
}

fn tell(inotify: &OwnedFd, waiting: &Waiting) {
    let mut buffer = [MaybeUninit::uninit(); EVENTS];
    let mut events = Reader::new(inotify, &mut buffer);
    loop {
        let number = match events.next() {
            Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => None,
            Ok(event) => Some(event.wd()),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => {
                log::warn!(error:%; "changes of log files are not told any more; they are looked at each second");
                return;
            }
        };
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match number {
            // Dropping the senders ends the receivers of all who waited there.
            Some(number) => drop(waiting.remove(&number)),
            None => waiting.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn whatever_happens_in_a_folder_is_told_to_all_who_wait_there() {
        let folder = tempfile::tempdir().unwrap();
        let (file, renamed) = (folder.path().join("one"), folder.path().join("two"));
        let write = || fs::write(&file, "something").unwrap();
        let rename = || fs::rename(&file, &renamed).unwrap();
        let changes: [&dyn Fn(); 3] = [&write, &write, &rename];

        for change in changes {
            let waiting = [(); 2].map(|()| next_change(folder.path()).unwrap());
            change();
            for one in waiting {
                one.await.unwrap_err();
            }
        }
    }

    #[tokio::test]
    async fn what_happens_elsewhere_wakes_nobody() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut waiting = next_change(here.path()).unwrap();
        let other = next_change(there.path()).unwrap();

        fs::write(there.path().join("one"), "something").unwrap();

        other.await.unwrap_err();
        assert_eq!(waiting.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    }

    #[test]
    fn a_folder_that_is_not_there_cannot_be_watched() {
        let folder = tempfile::tempdir().unwrap();

        assert!(next_change(&folder.path().join("none")).is_none());
    }
}
