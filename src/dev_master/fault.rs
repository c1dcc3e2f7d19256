//! What can be made to go wrong in the four methods that the master serves. `service` asks before every call; tests set and
//! lift faults while the master runs. Faults of the connection itself (refused, cut) are in `door`.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tonic::Code;

/// A method that the master serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// RegisterWorker.
    Register,
    /// SendHeartbeat.
    Heartbeat,
    /// ReportTaskCompletion.
    Report,
    /// UploadTaskFiles.
    Upload,
}

/// What happens to a call in place of the ordinary thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No effect; answered at once with success=false and this message, with gRPC OK.
    Refuse(String),
    /// No effect; answered at once with this gRPC error.
    Fail(Code, String),
    /// Takes effect, as the real master ignores its caller's deadline, but the answer never comes.
    NeverAnswer,
    /// No effect and no answer: a black hole. An upload is not even read.
    Ignore,
    /// Takes effect; the answer comes this much later.
    AnswerLate(Duration),
    /// Waits until the fault is lifted; then the call takes effect and is answered.
    Hold,
    /// Takes effect, then the connection is cut instead of an answer.
    DropReply,
    /// No effect; the connection is cut.
    DropCall,
}

/// The faults in force.
#[derive(Debug)]
pub(super) struct Faults {
    planned: Mutex<HashMap<Method, Planned>>,
    /// Counts the faults that were lifted, for calls that are being held.
    lifted: watch::Sender<u64>,
}

#[derive(Debug)]
struct Planned {
    fault: Fault,
    /// Calls still to be hit; `None` is all of them.
    remaining: Option<usize>,
}

impl Faults {
    pub(super) fn new() -> Self {
        Self {
            planned: Mutex::new(HashMap::new()),
            lifted: watch::Sender::new(0),
        }
    }

    /// Every call of `method` meets `fault` from now on, or only the next `times`.
    pub(super) fn set(&self, method: Method, fault: Fault, times: Option<usize>) {
        let planned = Planned {
            fault,
            remaining: times,
        };
        self.lock().insert(method, planned);
    }

    /// Calls of `method` are ordinary again, and held ones go on.
    pub(super) fn lift(&self, method: Method) {
        self.lock().remove(&method);
        self.lifted.send_modify(|count| *count += 1);
    }

    /// The fault for the call that has just come in.
    pub(super) fn take(&self, method: Method) -> Option<Fault> {
        let mut planned = self.lock();
        let entry = planned.get_mut(&method)?;
        if let Some(remaining) = &mut entry.remaining {
            // A spent entry stays: it marks the method as held for those that wait for `lift`.
            *remaining = remaining.checked_sub(1)?;
        }
        Some(entry.fault.clone())
    }

    /// Waits until no fault is planned for `method`.
    pub(super) async fn until_lifted(&self, method: Method) {
        let mut lifted = self.lifted.subscribe();
        while self.lock().contains_key(&method) {
            if lifted.changed().await.is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Method, Planned>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_fault_hits_only_so_many_calls() {
        let faults = Faults::new();
        faults.set(Method::Report, Fault::NeverAnswer, Some(2));

        let hits = (0..4).filter(|_| faults.take(Method::Report).is_some());

        assert_eq!(hits.count(), 2);
    }

    #[test]
    fn a_fault_hits_its_own_method_alone() {
        let faults = Faults::new();
        faults.set(Method::Report, Fault::Hold, None);

        assert_eq!(faults.take(Method::Heartbeat), None);
        assert_eq!(faults.take(Method::Report), Some(Fault::Hold));
    }

    #[tokio::test]
    async fn lifting_lets_those_who_wait_go_on() {
        let faults = Faults::new();
        faults.set(Method::Report, Fault::Hold, Some(1));

        let (_, ()) = tokio::join!(faults.until_lifted(Method::Report), async {
            tokio::task::yield_now().await;
            faults.lift(Method::Report);
        });

        assert_eq!(faults.take(Method::Report), None);
    }
}
