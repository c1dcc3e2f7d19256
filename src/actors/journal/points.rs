//! The failpoints of the durable steps: one before and one after each kind of change, on the journal's thread. Only in builds
//! with the feature `failpoints`.

use crate::{domain::record::Change, failpoint};

/// The changes are asked for, and nothing of them is on the disk.
pub(super) fn before(changes: &[Change]) {
    for change in changes {
        failpoint!(names(change)[0], change);
    }
}

/// The changes are on the disk, and no asker knows yet.
pub(super) fn after(changes: &[Change]) {
    for change in changes {
        failpoint!(names(change)[1], change);
    }
}

fn names(change: &Change) -> [&'static str; 2] {
    match change {
        Change::Accept(_) => ["journal.Accept.before", "journal.Accept.after"],
        Change::Withdraw(_) => ["journal.Withdraw.before", "journal.Withdraw.after"],
        Change::Answered(_) => ["journal.Answered.before", "journal.Answered.after"],
        Change::CancelRequested(_) => [
            "journal.CancelRequested.before",
            "journal.CancelRequested.after",
        ],
        Change::Starting { .. } => ["journal.Starting.before", "journal.Starting.after"],
        Change::Running { .. } => ["journal.Running.before", "journal.Running.after"],
        Change::Ended { .. } => ["journal.Ended.before", "journal.Ended.after"],
        Change::UploadFailed(_) => ["journal.UploadFailed.before", "journal.UploadFailed.after"],
        Change::Uploaded { .. } => ["journal.Uploaded.before", "journal.Uploaded.after"],
        Change::Sealed { .. } => ["journal.Sealed.before", "journal.Sealed.after"],
        Change::ReportFailed(_) => ["journal.ReportFailed.before", "journal.ReportFailed.after"],
        Change::Parked { .. } => ["journal.Parked.before", "journal.Parked.after"],
        Change::Redeliver(_) => ["journal.Redeliver.before", "journal.Redeliver.after"],
        Change::Redelivered(_) => ["journal.Redelivered.before", "journal.Redelivered.after"],
        Change::Delivered(_) => ["journal.Delivered.before", "journal.Delivered.after"],
        Change::Done { .. } => ["journal.Done.before", "journal.Done.after"],
        Change::Retire(_) => ["journal.Retire.before", "journal.Retire.after"],
        Change::ImagePulled { .. } => ["journal.ImagePulled.before", "journal.ImagePulled.after"],
        Change::ImageRemoved(_) => ["journal.ImageRemoved.before", "journal.ImageRemoved.after"],
        Change::Set { .. } => ["journal.Set.before", "journal.Set.after"],
    }
}
