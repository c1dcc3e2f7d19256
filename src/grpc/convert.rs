//! Converts wire types to domain types and back. Owns the digest that tells whether two offers are the same task, the text of a
//! task in a container's label, and the sizes and repairs that the contract wants of outgoing messages.
//!
//! Does not judge a task: an impossible task is converted like any other, and fails later under its own id.

pub(super) mod log;
mod settings;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use prost::Message;
use sha2::{Digest, Sha256};

use super::SEND_LIMIT;
use crate::{
    domain::{
        id::{NameError, PayloadDigest, TaskId},
        limits,
        spec::{Impossible, Offer, TaskSpec, Wants},
        task_settings::Variable,
        text::HeadAndTail,
        usage::Usage,
    },
    ports::{
        engine::SpecCodec,
        master::{Beat, Registration, Report, RunningTask},
        worker::{AssignAnswer, CancelAnswer},
    },
    proto,
};

/// The longest label that carries a whole task, in bytes of base64.
const LABEL_LIMIT: usize = 64 * 1024;

/// Bytes kept free for the marker of a cut log, and for characters that a cut broke.
const MARKER_ROOM: usize = 256;

/// Converts an offered task, cut to its limits, with its digest.
///
/// # Errors
/// The id is not valid: such a task could not even be reported.
pub(super) fn offer(task: proto::Task) -> Result<Offer, NameError> {
    let digest = digest(&task);
    let (spec, excess) = spec(task)?;
    Ok(Offer {
        spec,
        excess,
        digest,
    })
}

/// The digest that tells a repeated offer from another payload under the same id: SHA-256 over the message without the two fields
/// that the master may change between offers of one task, `target_worker_id` and `sla_multiplier`.
///
/// Fields are encoded in the order of their numbers and absent ones not at all. So a field that a later version adds changes
/// the digest of those tasks alone that use it, and a task that was accepted before an upgrade is known after it.
fn digest(task: &proto::Task) -> PayloadDigest {
    let same = proto::Task {
        target_worker_id: String::new(),
        sla_multiplier: 0.0,
        ..task.clone()
    };
    PayloadDigest(Sha256::digest(same.encode_to_vec()).into())
}

/// The digest of the offer that a task came from. A task that was read back from a label without its command has another one.
#[must_use]
pub fn digest_of(spec: &TaskSpec) -> PayloadDigest {
    digest(&task(spec))
}

/// The task, its texts cut to their limits, and the first thing that was over a limit or no valid setting.
fn spec(task: proto::Task) -> Result<(TaskSpec, Option<Impossible>), NameError> {
    let (asked, mistake) = match task.settings.map(settings::read) {
        Some(Ok(asked)) => (asked, None),
        Some(Err(why)) => (None, Some(Impossible::Setting(why))),
        None => (None, None),
    };
    let mut spec = TaskSpec {
        id: TaskId::new(task.task_id)?,
        image: task.docker_image,
        command: task.command,
        wants: Wants {
            cpu: task.req_cpu,
            memory: task.req_memory,
            storage: task.req_storage,
            gpu: task.req_gpu,
        },
        user_id: task.user_id,
        task_name: task.task_name,
        task_type: task.task_type,
        sla_multiplier: task.sla_multiplier,
        submitted_at: task.submitted_at,
        asked: asked.map(Box::new),
    };
    let excess = spec.cut_to_limits();
    Ok((spec, excess.or(mistake)))
}

fn task(spec: &TaskSpec) -> proto::Task {
    proto::Task {
        task_id: spec.id.as_str().to_owned(),
        docker_image: spec.image.clone(),
        command: spec.command.clone(),
        req_cpu: spec.wants.cpu,
        req_memory: spec.wants.memory,
        req_storage: spec.wants.storage,
        req_gpu: spec.wants.gpu,
        // This field says which worker the master chose, and is not kept.
        target_worker_id: String::new(),
        user_id: spec.user_id.clone(),
        sla_multiplier: spec.sla_multiplier,
        task_type: spec.task_type.clone(),
        task_name: spec.task_name.clone(),
        submitted_at: spec.submitted_at,
        settings: spec.asked.as_deref().map(settings::written),
    }
}

/// Writes a task into a container's label as the Task message in base64, and reads it back. The values of variables may be secret,
/// and are left out of labels.
#[derive(Debug, Clone, Copy, Default)]
pub struct TaskMessageCodec;

impl SpecCodec for TaskMessageCodec {
    fn encode(&self, spec: &TaskSpec) -> String {
        let mut task = task(spec);
        if let Some(settings) = &mut task.settings {
            settings.environment.values_mut().for_each(String::clear);
        }
        // The command alone can make the label too long: the other texts have their limits.
        if label_len(&task) > LABEL_LIMIT {
            task.command.clear();
        }
        BASE64.encode(task.encode_to_vec())
    }

    fn decode(&self, label: &str) -> Option<TaskSpec> {
        let bytes = BASE64.decode(label).ok()?;
        let task = proto::Task::decode(bytes.as_slice()).ok()?;
        // A task with a container was within the limits of its time: one over today's limits is only cut.
        let (mut spec, _) = spec(task).ok()?;
        if let Some(asked) = &mut spec.asked {
            let values = asked.environment.values_mut();
            values.for_each(|value| *value = Variable::Lost);
        }
        Some(spec)
    }
}

fn label_len(task: &proto::Task) -> usize {
    task.encoded_len().div_ceil(3) * 4
}

/// The answer to an offer.
pub(super) fn assign_ack(answer: AssignAnswer) -> proto::TaskAck {
    match answer {
        AssignAnswer::Accepted => task_ack(true, "accepted"),
        AssignAnswer::AlreadyAccepted => task_ack(true, "already accepted"),
        AssignAnswer::Refused(why) => task_ack(false, why),
    }
}

/// The answer to a cancel.
pub(super) fn cancel_ack(task: &TaskId, answer: CancelAnswer) -> proto::TaskAck {
    match answer {
        CancelAnswer::Accepted => task_ack(true, "cancelling"),
        CancelAnswer::NotFound => task_ack(false, format!("task {task} not found")),
        CancelAnswer::AlreadyFinished(word) => {
            task_ack(false, format!("already finished: {}", word.in_report()))
        }
    }
}

/// An answer about a task.
pub(super) fn task_ack(success: bool, message: impl Into<String>) -> proto::TaskAck {
    proto::TaskAck {
        success,
        message: message.into(),
    }
}

/// What a registration says on the wire.
pub(super) fn worker_info(registration: Registration) -> proto::WorkerInfo {
    proto::WorkerInfo {
        worker_id: registration.worker.as_str().to_owned(),
        worker_ip: registration.address,
        total_cpu: registration.totals.cpu,
        total_memory: registration.totals.memory,
        total_storage: registration.totals.storage,
        total_gpu: registration.totals.gpu,
    }
}

/// A heartbeat on the wire; percentages are put between 0 and 100, and NaN becomes 0.
pub(super) fn heartbeat(beat: Beat) -> proto::Heartbeat {
    proto::Heartbeat {
        worker_id: beat.worker.as_str().to_owned(),
        cpu_usage: percent(beat.cpu),
        memory_usage: percent(beat.memory),
        storage_usage: percent(beat.storage),
        running_tasks: beat.running.iter().map(running_task).collect(),
        gpu_usage: percent(beat.gpu),
    }
}

fn running_task(task: &RunningTask) -> proto::RunningTask {
    proto::RunningTask {
        task_id: task.task.as_str().to_owned(),
        cpu_allocated: task.cpu,
        memory_allocated: task.memory,
        status: task.status.to_owned(),
        gpu_allocated: task.gpu,
    }
}

fn percent(value: f64) -> f64 {
    // `clamp` leaves NaN as it is.
    if value.is_nan() {
        0.0
    } else {
        value.clamp(0.0, 100.0)
    }
}

/// A result on the wire, under [`SEND_LIMIT`] as a whole: a log that is too long loses its middle, with a marker there, and
/// keeps its trailer.
pub(super) fn task_result(report: Report) -> proto::TaskResult {
    let mut room = limits::REPORTED_PATHS;
    let output_files = report
        .output_files
        .into_iter()
        .take_while(|path| {
            // Each path has a tag and a length before it on the wire.
            let size = path.len() + 8;
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        })
        .collect();
    let mut result = proto::TaskResult {
        task_id: report.task.as_str().to_owned(),
        worker_id: report.worker.as_str().to_owned(),
        status: report.status.in_report().to_owned(),
        logs: String::new(),
        result_location: String::new(),
        output_files,
        result_id: report.result_id.0,
        usage: report.usage.map(usage),
        image: report.image.unwrap_or_default(),
    };
    let room = SEND_LIMIT.saturating_sub(result.encoded_len() + MARKER_ROOM);
    result.logs = cut(report.logs, room);
    result
}

fn usage(usage: Usage) -> proto::ResourceUsage {
    proto::ResourceUsage {
        cpu_seconds: usage.cpu.as_secs_f64(),
        peak_memory_bytes: usage.peak_memory,
        disk_read_bytes: usage.disk.into,
        disk_write_bytes: usage.disk.out,
        network_receive_bytes: usage.network.map(|network| network.into),
        network_transmit_bytes: usage.network.map(|network| network.out),
    }
}

fn cut(logs: String, limit: usize) -> String {
    if logs.len() <= limit {
        return logs;
    }
    let mut kept = HeadAndTail::new(limit);
    kept.push(logs.as_bytes());
    kept.into_text()
}

/// A time in microseconds since the epoch, in the contract's form; one outside of the calendar becomes the epoch.
pub(super) fn rfc3339(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_string()
}

#[cfg(test)]
mod tests;
