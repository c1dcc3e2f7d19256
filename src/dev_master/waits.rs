//! Facts to wait for, so that no test ever sleeps. Each waits as long as `MasterOptions::patience`, and its error tells what
//! was seen instead.

use super::{
    Beat, DevMaster, Method, NotSeen, Offer, Record, Registration, ReportCopy, Upload, UploadEnd,
};
use crate::proto::Heartbeat;

impl DevMaster {
    /// Waits for anything in the record.
    ///
    /// # Errors
    /// It does not come in time.
    pub async fn wait<T>(
        &self,
        wanted: &str,
        look: impl FnMut(&Record) -> Option<T>,
    ) -> Result<T, NotSeen> {
        self.core
            .ledger
            .until(wanted, self.core.options.patience, look)
            .await
    }

    /// Waits for the first registration of a worker.
    ///
    /// # Errors
    /// It does not come in time.
    pub async fn wait_registered(&self, worker: &str) -> Result<Registration, NotSeen> {
        self.wait_registrations(worker, 1).await
    }

    /// Waits until a worker has registered `count` times, and returns that registration.
    ///
    /// # Errors
    /// It does not come in time.
    pub async fn wait_registrations(
        &self,
        worker: &str,
        count: usize,
    ) -> Result<Registration, NotSeen> {
        let wanted = format!("registration {count} of {worker}");
        self.wait(&wanted, |record| {
            record.worker(worker)?.registrations.get(count - 1).cloned()
        })
        .await
    }

    /// Waits for a heartbeat of this kind, among those that came before too.
    ///
    /// # Errors
    /// It does not come in time.
    pub async fn wait_heartbeat(
        &self,
        worker: &str,
        wanted: impl Fn(&Heartbeat) -> bool,
    ) -> Result<Beat, NotSeen> {
        let name = format!("a certain heartbeat of {worker}");
        self.wait(&name, |record| {
            let mut beats = record.worker(worker)?.heartbeats.iter();
            beats.find(|beat| wanted(&beat.heartbeat)).cloned()
        })
        .await
    }

    /// Waits for `count` calls of a method, whatever becomes of them.
    ///
    /// # Errors
    /// They do not come in time.
    pub async fn wait_calls(&self, method: Method, count: usize) -> Result<(), NotSeen> {
        let wanted = format!("{count} calls of {method:?}");
        self.wait(&wanted, |record| {
            (record.calls(method) >= count).then_some(())
        })
        .await
    }

    /// Waits until a task was accepted and the master's own writes are done.
    ///
    /// # Errors
    /// It is not accepted in time.
    pub async fn wait_accepted(&self, task: &str) -> Result<(), NotSeen> {
        let wanted = format!("the acceptance of {task}");
        self.wait(&wanted, |record| record.task(task)?.written_at.map(|_| ()))
            .await
    }

    /// Waits until a task was offered `count` times, and returns the last of these.
    ///
    /// # Errors
    /// It is not offered in time.
    pub async fn wait_offers(&self, task: &str, count: usize) -> Result<Offer, NotSeen> {
        let wanted = format!("offer {count} of {task}");
        self.wait(&wanted, |record| {
            record.task(task)?.offers.get(count - 1).cloned()
        })
        .await
    }

    /// Waits for the first report of a task.
    ///
    /// # Errors
    /// It does not come in time.
    pub async fn wait_report(&self, task: &str) -> Result<ReportCopy, NotSeen> {
        self.wait_reports(task, 1).await
    }

    /// Waits for copy `count` of a task's report.
    ///
    /// # Errors
    /// It does not come in time.
    pub async fn wait_reports(&self, task: &str, count: usize) -> Result<ReportCopy, NotSeen> {
        let wanted = format!("copy {count} of the report of {task}");
        self.wait(&wanted, |record| {
            record.task(task)?.reports.get(count - 1).cloned()
        })
        .await
    }

    /// Waits for the first upload of a task that came to its end.
    ///
    /// # Errors
    /// It does not come in time.
    pub async fn wait_upload(&self, task: &str) -> Result<Upload, NotSeen> {
        let wanted = format!("an upload of {task}");
        let complete = |upload: &&Upload| upload.end == UploadEnd::Complete;
        self.wait(&wanted, |record| {
            record.task(task)?.uploads.iter().find(complete).cloned()
        })
        .await
    }

    /// Waits until `count` connections were made, whatever became of them.
    ///
    /// # Errors
    /// They are not made in time.
    pub async fn wait_connections(&self, count: u64) -> Result<(), NotSeen> {
        let mut knocks = self.core.door.knocks();
        let within = self.core.options.patience;
        let made = tokio::time::timeout(within, knocks.wait_for(|made| *made >= count)).await;
        let missed = |seen: u64| NotSeen {
            wanted: format!("{count} connections"),
            within,
            seen: format!("  {seen} connections"),
        };
        match made {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(missed(self.connections())),
        }
    }
}
