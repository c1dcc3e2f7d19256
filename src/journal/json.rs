//! The parts of a record that are stored as JSON text: what its task asks for, endings and verdicts. Converted by hand, so that a change of a type in
//! the domain cannot change the format of a file that older and newer programs share.

mod asked;

use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;

use crate::domain::{
    outcome::{Exit, Failure, Outcome},
    record::{Ending, OutputFile, Outputs, Verdict},
    usage::{Transfer, Usage},
};

pub(super) use asked::{asked_from_text, asked_to_text};

/// Stored text that this program cannot have written; the field says where it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the stored text has no valid {0:?}")]
pub(super) struct Garbled(&'static str);

pub(super) fn verdict_to_text(verdict: &Verdict) -> String {
    json!({ "outcome": outcome(&verdict.outcome), "trailer": verdict.trailer }).to_string()
}

pub(super) fn verdict_from_text(text: &str) -> Result<Verdict, Garbled> {
    let stored = parse(text)?;
    Ok(Verdict {
        outcome: read_outcome(&stored["outcome"])?,
        trailer: string(&stored, "trailer")?,
    })
}

pub(super) fn ending_to_text(ending: &Ending) -> String {
    let files: Vec<Value> = ending.outputs.files.iter().map(file).collect();
    json!({
        "outcome": outcome(&ending.outcome),
        "exit": ending.exit.as_ref().map(exit),
        "files": files,
        "skipped": ending.outputs.skipped,
        "notes": ending.notes,
    })
    .to_string()
}

pub(super) fn ending_from_text(text: &str) -> Result<Ending, Garbled> {
    let stored = parse(text)?;
    let exit = match &stored["exit"] {
        Value::Null => None,
        exit => Some(read_exit(exit)?),
    };
    let files = stored["files"].as_array().ok_or(Garbled("files"))?;
    Ok(Ending {
        outcome: read_outcome(&stored["outcome"])?,
        exit,
        outputs: Outputs {
            files: files.iter().map(read_file).collect::<Result<_, _>>()?,
            skipped: strings(&stored, "skipped")?,
        },
        notes: strings(&stored, "notes")?,
    })
}

fn outcome(outcome: &Outcome) -> Value {
    let failure = match outcome {
        Outcome::Succeeded => return json!({ "is": "succeeded" }),
        Outcome::Cancelled => return json!({ "is": "cancelled" }),
        Outcome::Failed(failure) => failure,
    };
    let (why, code, text) = match failure {
        Failure::ExitCode(code) => ("exit_code", Some(code), None),
        Failure::Signal(signal) => ("signal", Some(signal), None),
        Failure::OutOfMemory => ("out_of_memory", None, None),
        Failure::TimedOut => ("timed_out", None, None),
        Failure::OverStorage(text) => ("over_storage", None, Some(text)),
        Failure::Pull(text) => ("pull", None, Some(text)),
        Failure::Create(text) => ("create", None, Some(text)),
        Failure::Start(text) => ("start", None, Some(text)),
        Failure::Impossible(text) => ("impossible", None, Some(text)),
        Failure::EngineLost(text) => ("engine_lost", None, Some(text)),
        Failure::StoppedByOther(text) => ("stopped_by_other", None, Some(text)),
        Failure::Internal(text) => ("internal", None, Some(text)),
    };
    json!({ "is": "failed", "why": why, "code": code, "text": text })
}

fn read_outcome(stored: &Value) -> Result<Outcome, Garbled> {
    match stored["is"].as_str() {
        Some("succeeded") => Ok(Outcome::Succeeded),
        Some("cancelled") => Ok(Outcome::Cancelled),
        Some("failed") => read_failure(stored).map(Outcome::Failed),
        _ => Err(Garbled("outcome")),
    }
}

fn read_failure(stored: &Value) -> Result<Failure, Garbled> {
    let code = || stored["code"].as_i64().ok_or(Garbled("code"));
    let text = || string(stored, "text");
    Ok(match stored["why"].as_str().ok_or(Garbled("why"))? {
        "exit_code" => Failure::ExitCode(code()?),
        "signal" => Failure::Signal(code()?),
        "out_of_memory" => Failure::OutOfMemory,
        "timed_out" => Failure::TimedOut,
        "over_storage" => Failure::OverStorage(text()?),
        "pull" => Failure::Pull(text()?),
        "create" => Failure::Create(text()?),
        "start" => Failure::Start(text()?),
        "impossible" => Failure::Impossible(text()?),
        "engine_lost" => Failure::EngineLost(text()?),
        "stopped_by_other" => Failure::StoppedByOther(text()?),
        "internal" => Failure::Internal(text()?),
        _ => return Err(Garbled("why")),
    })
}

fn exit(exit: &Exit) -> Value {
    json!({
        "code": exit.code,
        "oom_killed": exit.oom_killed,
        "seconds": exit.duration.as_secs(),
        "nanos": exit.duration.subsec_nanos(),
        "usage": exit.usage.as_ref().map(usage),
    })
}

fn read_exit(stored: &Value) -> Result<Exit, Garbled> {
    let nanos = stored["nanos"]
        .as_u64()
        .filter(|nanos| *nanos < 1_000_000_000);
    let nanos = nanos.and_then(|nanos| u32::try_from(nanos).ok());
    Ok(Exit {
        code: stored["code"].as_i64().ok_or(Garbled("code"))?,
        oom_killed: stored["oom_killed"]
            .as_bool()
            .ok_or(Garbled("oom_killed"))?,
        duration: Duration::new(
            stored["seconds"].as_u64().ok_or(Garbled("seconds"))?,
            nanos.ok_or(Garbled("nanos"))?,
        ),
        usage: read_usage(stored),
    })
}

fn usage(usage: &Usage) -> Value {
    json!({
        "cpu_nanos": u64::try_from(usage.cpu.as_nanos()).unwrap_or(u64::MAX),
        "memory": usage.memory,
        "peak_memory": usage.peak_memory,
        "pids": usage.pids,
        "disk": transfer(&usage.disk),
        "network": usage.network.as_ref().map(transfer),
    })
}

fn transfer(transfer: &Transfer) -> Value {
    json!([transfer.into, transfer.out])
}

/// What a task used. A missing field, or one that is no number, counts as 0 or unknown: no task is lost for it. Older versions of
/// this program wrote the peak of memory alone.
fn read_usage(stored: &Value) -> Option<Usage> {
    let seen = &stored["usage"];
    if seen.is_null() {
        let peak_memory = stored["peak_memory"].as_u64()?;
        return Some(Usage {
            peak_memory,
            ..Usage::default()
        });
    }
    let number = |name: &str| seen[name].as_u64().unwrap_or(0);
    let transfer = |name: &str| {
        Some(Transfer {
            into: seen[name][0].as_u64()?,
            out: seen[name][1].as_u64()?,
        })
    };
    Some(Usage {
        cpu: Duration::from_nanos(number("cpu_nanos")),
        memory: number("memory"),
        peak_memory: number("peak_memory"),
        pids: number("pids"),
        disk: transfer("disk").unwrap_or_default(),
        network: transfer("network"),
    })
}

/// A file's name in bytes is stored only where it differs from its path, which is seldom: in hexadecimal.
fn file(file: &OutputFile) -> Value {
    let source = (file.source != file.path.as_bytes()).then(|| hex(&file.source));
    json!({ "path": file.path, "size": file.size, "source": source })
}

fn read_file(stored: &Value) -> Result<OutputFile, Garbled> {
    let path = string(stored, "path")?;
    let source = match stored["source"].as_str() {
        Some(source) => unhex(source).ok_or(Garbled("source"))?,
        None => path.clone().into_bytes(),
    };
    let size = stored["size"].as_u64().ok_or(Garbled("size"))?;
    Ok(OutputFile { path, source, size })
}

fn parse(text: &str) -> Result<Value, Garbled> {
    serde_json::from_str(text).map_err(|_| Garbled("JSON"))
}

fn string(stored: &Value, key: &'static str) -> Result<String, Garbled> {
    stored[key].as_str().map(str::to_owned).ok_or(Garbled(key))
}

fn strings(stored: &Value, key: &'static str) -> Result<Vec<String>, Garbled> {
    let each = stored[key].as_array().ok_or(Garbled(key))?.iter();
    each.map(|item| item.as_str().map(str::to_owned).ok_or(Garbled(key)))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits?;
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|[high, low]| u8::try_from(high << 4 | low).ok())
        .collect()
}
