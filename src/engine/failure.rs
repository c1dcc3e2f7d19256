//! What an answer of the engine that is no success means: the status decides first; a short part of the text, in any case
//! of letters, decides only where engines differ in the status. The words themselves are passed on.

use std::error::Error as _;

use bollard::errors::Error;

use crate::{domain::text, ports::engine::EngineError};

/// Bytes of the engine's words that are kept: some runtimes answer with whole traces.
const WORDS_LIMIT: usize = 4_096;

/// What the registry's refusals of credentials have in common, over all engines; sent with status 401 or 500, or in the
/// stream of a pull.
const CREDENTIAL_WORDS: [&str; 4] = [
    "no basic auth credentials",
    "unauthorized",
    "authentication required",
    "denied",
];

/// Words in a pull's stream for an image that there is not.
const MISSING_WORDS: [&str; 4] = [
    "manifest unknown",
    "not found",
    "no matching manifest",
    "no such image",
];

/// Words of a pull's failure that a later pull would meet again, whatever the status.
const PULL_IS_FINAL: [&str; 5] = [
    "x509:",
    "server gave http response to https client",
    "unsupported media type",
    "unsupported manifest",
    "unknown blob format",
];

/// Words of a registry that refuses for a while, even where it also says 'denied'.
const LATER_WORDS: [&str; 3] = ["toomanyrequests", "too many requests", "rate limit"];

/// Words of a start's failure, with status 500, that the same start would meet again.
const START_IS_FINAL: [&str; 4] = [
    "oci runtime",
    "could not select device driver",
    "port is already allocated",
    "error mounting",
];

/// Words of a failure for want of room on the engine's machine: memory, disk, inodes, descriptors. Room may be there again later.
const ROOM_WORDS: [&str; 4] = [
    "no space left on device",
    "too many open files",
    "cannot allocate memory",
    "disk quota exceeded",
];

/// Whether the engine's words are about room that may be there again later.
pub(super) fn is_out_of_room(said: &str) -> bool {
    has_any(said, &ROOM_WORDS)
}

/// The meaning of any call's failure.
pub(super) fn of_call(error: Error) -> EngineError {
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => by_status(status_code, &message),
        other => without_answer(other),
    }
}

/// The meaning of a start's failure. A missing network or a bad command comes with the status of a missing container or a bad
/// request, and the same start would fail again.
pub(super) fn of_start(error: Error) -> EngineError {
    match error {
        Error::DockerResponseServerError {
            status_code: 404,
            message,
        } if !has_any(&message, &["no such container"]) => EngineError::Invalid(words(&message)),
        Error::DockerResponseServerError {
            status_code: 500..,
            message,
        } if has_any(&message, &START_IS_FINAL) && !is_out_of_room(&message) => {
            EngineError::Invalid(words(&message))
        }
        Error::DockerResponseServerError {
            status_code: 400,
            message,
        } if is_out_of_room(&message) => EngineError::Failed(words(&message)),
        other => of_call(other),
    }
}

/// The meaning of a pull's failure, which comes as a status or as an item of the stream.
pub(super) fn of_pull(error: Error) -> EngineError {
    if let Error::DockerResponseServerError { message: said, .. }
    | Error::DockerStreamError { error: said } = &error
    {
        if has_any(said, &LATER_WORDS) {
            return EngineError::Failed(words(said));
        }
        if has_any(said, &PULL_IS_FINAL) {
            return EngineError::Invalid(words(said));
        }
    }
    match error {
        Error::DockerResponseServerError {
            status_code: 404,
            message,
        } => EngineError::NotFound(words(&message)),
        Error::DockerResponseServerError { message, .. } if refuses_credentials(&message) => {
            EngineError::Unauthorized(words(&message))
        }
        Error::DockerStreamError { error } if refuses_credentials(&error) => {
            EngineError::Unauthorized(words(&error))
        }
        Error::DockerStreamError { error } if has_any(&error, &MISSING_WORDS) => {
            EngineError::NotFound(words(&error))
        }
        other => of_call(other),
    }
}

/// The meaning of an answer with that status.
pub(super) fn by_status(status: u16, message: &str) -> EngineError {
    let said = words(message);
    match status {
        400 => EngineError::Invalid(said),
        401 => EngineError::Unauthorized(said),
        404 => EngineError::NotFound(said),
        409 => EngineError::Conflict(said),
        // Engines that are only like Docker answer 500 for a conflict.
        500 if has_any(message, &["is not running", "already in use"]) => {
            EngineError::Conflict(said)
        }
        _ if said.is_empty() => {
            EngineError::Failed(format!("the engine answered with status {status}"))
        }
        _ => EngineError::Failed(said),
    }
}

fn without_answer(error: Error) -> EngineError {
    match &error {
        Error::HyperLegacyError { .. }
        | Error::HyperResponseError { .. }
        | Error::IOError { .. }
        // An answer that stopped in the middle; one that is complete and makes no sense is `JsonDataError`.
        | Error::JsonSerdeError { .. }
        | Error::SocketNotFoundError(_) => EngineError::Away(with_causes(&error)),
        Error::RequestTimeoutError => EngineError::Deadline("request"),
        Error::DockerStreamError { error } => EngineError::Failed(words(error)),
        Error::URLEncodedError { .. }
        | Error::URLParseError { .. }
        | Error::InvalidURIError { .. }
        | Error::InvalidURIPartsError { .. }
        | Error::HttpClientError { .. } => EngineError::Invalid(with_causes(&error)),
        _ => EngineError::Failed(with_causes(&error)),
    }
}

/// An error's text with its causes. Of the client's wrapper only the deepest cause: its own text for a refused connection is 'Error
/// in the hyper legacy client: client error (Connect)', which says nothing to anybody else.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let is_wrapper = matches!(error, Error::HyperLegacyError { .. });
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let said = deeper.to_string();
        if is_wrapper {
            text = said;
        } else if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = deeper.source();
    }
    words(&text)
}

fn refuses_credentials(message: &str) -> bool {
    // The engine's own disk says 'permission denied' too; no registry's refusal does.
    let said = message
        .to_ascii_lowercase()
        .replace("permission denied", "");
    has_any(&said, &CREDENTIAL_WORDS)
}

/// Whether one of these lower-case texts is in the message.
pub(super) fn has_any(message: &str, parts: &[&str]) -> bool {
    let message = message.to_ascii_lowercase();
    parts.iter().any(|part| message.contains(part))
}

fn words(message: &str) -> String {
    text::truncate(message.trim(), WORDS_LIMIT).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError {
            status_code,
            message: message.into(),
        }
    }

    fn item(error: &str) -> Error {
        Error::DockerStreamError {
            error: error.into(),
        }
    }

    fn kind(error: &EngineError) -> &'static str {
        match error {
            EngineError::Away(_) => "away",
            EngineError::Deadline(_) => "deadline",
            EngineError::NotFound(_) => "not found",
            EngineError::Conflict(_) => "conflict",
            EngineError::Unauthorized(_) => "unauthorized",
            EngineError::Invalid(_) => "invalid",
            EngineError::Failed(_) => "failed",
        }
    }

    #[test]
    fn calls_are_judged_by_status_first() {
        for (status, message, expected) in [
            (400, "invalid reference format", "invalid"),
            (404, "No such image: x", "not found"),
            (
                409,
                "Conflict. The container name \"/n\" is already in use",
                "conflict",
            ),
            (409, "container ab is not running", "conflict"),
            (
                500,
                "can only kill running containers: Container x IS NOT RUNNING",
                "conflict",
            ),
            (500, "permission denied", "failed"),
            (503, "", "failed"),
        ] {
            assert_eq!(
                kind(&of_call(answer(status, message))),
                expected,
                "{status} {message}"
            );
        }
        assert_eq!(
            of_call(answer(503, "")),
            EngineError::Failed("the engine answered with status 503".into())
        );
    }

    #[test]
    fn a_start_that_would_fail_again_is_told_from_a_missing_container() {
        for (status, message, expected) in [
            (404, "No such container: ab", "not found"),
            (404, "network ghost not found", "invalid"),
            (
                400,
                "OCI runtime create failed: exec: \"nope\": not found in $PATH",
                "invalid",
            ),
            (
                500,
                "could not select device driver \"\" with capabilities: [[gpu]]",
                "invalid",
            ),
            (500, "failed to create endpoint on network bridge", "failed"),
            (
                500,
                "OCI runtime create failed: mkdir: no space left on device",
                "failed",
            ),
            (
                500,
                "error mounting \"/x/docker-init\" to rootfs",
                "invalid",
            ),
        ] {
            assert_eq!(
                kind(&of_start(answer(status, message))),
                expected,
                "{status} {message}"
            );
        }
    }

    #[test]
    fn pulls_that_need_other_credentials_are_known_on_every_engine() {
        for error in [
            answer(401, "unauthorized: authentication required"),
            answer(500, "unauthorized: authentication required"),
            answer(500, "Get http://r/v2/: no basic auth credentials"),
            answer(
                500,
                "unexpected status from HEAD request to http://r: 401 Unauthorized",
            ),
            answer(403, "denied: requested access to the resource is denied"),
            item("unauthorized: authentication required"),
        ] {
            assert_eq!(kind(&of_pull(error)), "unauthorized");
        }
    }

    #[test]
    fn pulls_of_what_is_not_there_are_final_and_others_are_not() {
        for (error, expected) in [
            (
                answer(404, "manifest for r/x:1 not found: manifest unknown"),
                "not found",
            ),
            (
                answer(404, "pull access denied for x, repository does not exist"),
                "not found",
            ),
            (
                item("no matching manifest for linux/amd64 in the manifest list entries"),
                "not found",
            ),
            (
                item("failed to resolve reference \"r/x:1\": r/x:1: not found"),
                "not found",
            ),
            (
                item("filesystem layer verification failed for digest sha256:ab"),
                "failed",
            ),
            (
                answer(500, "dial tcp 127.0.0.1:1: connect: connection refused"),
                "failed",
            ),
            (
                item("open /data/tmp/GetImageBlob1: permission denied"),
                "failed",
            ),
            (answer(400, "invalid reference format"), "invalid"),
            (
                answer(500, "toomanyrequests: access denied, Retry-After: 20"),
                "failed",
            ),
            (answer(429, "Too Many Requests"), "failed"),
            (answer(500, "dial tcp: lookup r: no such host"), "failed"),
            (answer(503, "Service Unavailable"), "failed"),
            (
                answer(500, "x509: certificate signed by unknown authority"),
                "invalid",
            ),
            (
                answer(500, "http: server gave HTTP response to HTTPS client"),
                "invalid",
            ),
        ] {
            let shown = error.to_string();
            assert_eq!(kind(&of_pull(error)), expected, "{shown}");
        }
    }

    #[test]
    fn a_broken_connection_is_an_engine_that_is_away_and_says_why() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "reset by peer");
        let cut = serde_json::from_str::<u8>("").unwrap_err();

        assert_eq!(
            of_call(Error::IOError { err: refused }),
            EngineError::Away("reset by peer".into())
        );
        assert_eq!(kind(&of_call(Error::JsonSerdeError { err: cut })), "away");
        assert_eq!(
            kind(&of_call(Error::SocketNotFoundError("/x".into()))),
            "away"
        );
    }

    #[test]
    fn endless_words_are_cut() {
        let EngineError::Failed(said) = of_call(answer(500, &"é".repeat(WORDS_LIMIT))) else {
            panic!("a 500 is a failure");
        };

        assert_eq!(said.len(), WORDS_LIMIT);
    }
}
