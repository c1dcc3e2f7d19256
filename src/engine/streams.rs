//! Streams out of the engine: a container's output, byte for byte, and hints about what changed. The end of any of them says
//! nothing about the container.

use std::{collections::HashMap, pin::Pin, time::SystemTime};

use bollard::{
    container::LogOutput,
    errors::Error,
    models::EventMessage,
    query_parameters::{AttachContainerOptions, EventsOptions},
};
use futures_util::{Stream, StreamExt, TryStreamExt, future::ready, stream};

use super::{DockerEngine, call::path_part, failure, labels, record};
use crate::{
    domain::{
        id::{ContainerId, WorkerId},
        log_line::Source,
        text,
    },
    ports::engine::{EngineError, EngineEvent, Events, Frame, Frames, RememberedEnd},
};

/// The kind of frame with which the engine reports a failure of its own.
const ENGINE_WORDS: u8 = 3;

/// Events that an engine remembers at most, every version of it until now.
const MEMORY: usize = 256;

/// Bytes before a frame's content.
const FRAME_HEADER: usize = 8;

impl DockerEngine {
    pub(super) async fn open_attach(&self, container: &ContainerId) -> Result<Frames, EngineError> {
        let options = AttachContainerOptions {
            stream: true,
            stdout: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        let id = path_part(&container.0)?;
        let attached = self
            .line
            .docker()?
            .attach_container(id, Some(options))
            .await
            .map_err(failure::of_call)?;
        Ok(Box::pin(attached.output.map(frame)))
    }

    pub(super) async fn open_logs(
        &self,
        container: &ContainerId,
        moments: &[SystemTime],
    ) -> Result<Frames, EngineError> {
        opened(Box::pin(self.record(container, "0", moments)?)).await
    }

    /// Its first item may be long in coming: a container may say nothing for hours.
    pub(super) fn follow_logs(
        &self,
        container: &ContainerId,
        moments: &[SystemTime],
    ) -> Result<Frames, EngineError> {
        Ok(Box::pin(self.record(container, "1", moments)?))
    }

    fn record(
        &self,
        container: &ContainerId,
        follow: &str,
        moments: &[SystemTime],
    ) -> Result<impl Stream<Item = Result<Frame, EngineError>> + Send + use<>, EngineError> {
        let id = path_part(&container.0)?;
        let times = u8::from(!moments.is_empty());
        let path = format!(
            "/containers/{id}/logs?stdout=1&stderr=1&tail=all&follow={follow}&timestamps={times}"
        );
        Ok(record::frames(&self.line, path, moments))
    }

    /// Begins at the engine's own time of this call, so that nothing is missed until the stream is first read.
    pub(super) async fn open_events(&self, worker: &WorkerId) -> Result<Events, EngineError> {
        let options = EventsOptions {
            since: Some(self.engine_time().await?),
            until: None,
            filters: Some(with_type(labels::filter_of(worker))),
        };
        let messages = self.line.docker()?.events(Some(options));
        Ok(Box::pin(
            messages.filter_map(|message| ready(hint(message))),
        ))
    }

    /// Looks through what the engine remembers of its events: the last few hundred, since its own start.
    pub(super) async fn remembers_start(
        &self,
        container: &ContainerId,
    ) -> Result<bool, EngineError> {
        let docker = self.line.docker()?;
        let id = path_part(&container.0)?;
        let inspected = docker.inspect_container(id, None).await;
        let created = inspected.map_err(failure::of_call)?.created;
        let filter = |name: &str, value: &str| (name.to_owned(), vec![value.to_owned()]);
        let options = EventsOptions {
            since: created.as_deref().and_then(event_time),
            until: Some(self.engine_time().await?),
            filters: Some(with_type(HashMap::from([
                filter("container", id),
                filter("event", "start"),
            ]))),
        };
        match docker.events(Some(options)).next().await {
            Some(Ok(_)) => Ok(true),
            Some(Err(error)) => Err(failure::of_call(error)),
            None => Ok(false),
        }
    }

    /// Looks through all that the engine remembers: only so it shows whether its memory is full.
    pub(super) async fn remembers_end(
        &self,
        container: &ContainerId,
    ) -> Result<RememberedEnd, EngineError> {
        let asked = self.engine_time().await?;
        let events = self.events_between("0".into(), asked.clone()).await?;
        let mut count = events.len();
        if count < MEMORY {
            // What came while it was asked took the place of something, and is not among what was asked for.
            let since = self.events_between(asked, self.engine_time().await?);
            count += since.await?.len();
        }
        let events = events.into_iter().filter_map(event);
        let its = events.filter(|event| event.container == *container);
        Ok(remembered_end(its, count))
    }

    /// Of every kind of thing, not of containers alone.
    async fn events_between(
        &self,
        since: String,
        until: String,
    ) -> Result<Vec<EventMessage>, EngineError> {
        let options = EventsOptions {
            since: Some(since),
            until: Some(until),
            filters: None,
        };
        let messages = self.line.docker()?.events(Some(options));
        messages.map_err(failure::of_call).try_collect().await
    }

    async fn engine_time(&self) -> Result<String, EngineError> {
        let info = self.line.docker()?.info().await.map_err(failure::of_call)?;
        info.system_time
            .as_deref()
            .and_then(event_time)
            .ok_or_else(|| EngineError::Failed("the engine does not tell its time".into()))
    }
}

/// The engine writes RFC 3339, but reads bounds of events only as seconds and nanoseconds since the epoch.
fn event_time(told: &str) -> Option<String> {
    let time = labels::read_time(told)?;
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let (seconds, nanos) = (since_epoch.as_secs(), since_epoch.subsec_nanos());
    Some(format!("{seconds}.{nanos:09}"))
}

fn with_type(mut filters: HashMap<String, Vec<String>>) -> HashMap<String, Vec<String>> {
    filters.insert("type".into(), vec!["container".into()]);
    filters
}

/// Waits for the first item, so that a stream that cannot be had is an error of the call and not of its first reading.
pub(super) async fn opened<T: Send + 'static>(
    mut items: impl Stream<Item = Result<T, EngineError>> + Send + Unpin + 'static,
) -> Result<Pin<Box<dyn Stream<Item = Result<T, EngineError>> + Send>>, EngineError> {
    match items.next().await {
        Some(Ok(first)) => Ok(Box::pin(stream::once(ready(Ok(first))).chain(items))),
        Some(Err(error)) => Err(error),
        None => Ok(Box::pin(stream::empty())),
    }
}

fn frame(item: Result<LogOutput, Error>) -> Result<Frame, EngineError> {
    let (source, bytes) = match item.map_err(failure::of_call)? {
        LogOutput::StdOut { message } | LogOutput::StdIn { message } => (Source::Stdout, message),
        LogOutput::StdErr { message } => (Source::Stderr, message),
        // Our containers have no console. The client gives this name to what is outside of its frames. One kind of them it
        // does not know: the engine's own words about a log that it cannot read on.
        LogOutput::Console { message } if message.first() == Some(&ENGINE_WORDS) => {
            let said = message.get(FRAME_HEADER..).unwrap_or_default();
            return Err(engine_words(said));
        }
        // The other thing outside is the rest of a frame that was cut off.
        LogOutput::Console { message } => {
            let bytes = message.len();
            let said = format!("the stream broke off within a frame, {bytes} bytes into it");
            return Err(EngineError::Away(said));
        }
    };
    Ok(Frame {
        source,
        bytes,
        beyond: None,
    })
}

/// What the engine says of itself where the output of a container should be.
pub(super) fn engine_words(said: &[u8]) -> EngineError {
    EngineError::Failed(text::repair_utf8(said).trim().into())
}

fn hint(message: Result<EventMessage, Error>) -> Option<Result<EngineEvent, EngineError>> {
    match message {
        Ok(message) => event(message).map(Ok),
        Err(error) => Some(Err(failure::of_call(error))),
    }
}

fn event(message: EventMessage) -> Option<EngineEvent> {
    let actor = message.actor?;
    let attributes = actor.attributes.unwrap_or_default();
    let signal = attributes.get("signal");
    Some(EngineEvent {
        container: ContainerId(actor.id?),
        action: message.action?,
        signal: signal.and_then(|signal| signal.parse().ok()),
    })
}

/// What one container's events tell, of so many that are remembered in all.
fn remembered_end(events: impl Iterator<Item = EngineEvent>, in_all: usize) -> RememberedEnd {
    let mut signals = Vec::new();
    for event in events {
        match event.action.as_str() {
            "kill" => signals.extend(event.signal),
            "die" => return RememberedEnd::Seen(signals),
            _ => {}
        }
    }
    if in_all < MEMORY {
        RememberedEnd::BeforeItsStart
    } else {
        RememberedEnd::Forgotten
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn a_stream_that_begins_with_an_error_is_an_error_of_the_call() {
        let missing = EngineError::NotFound("none".into());
        let items = stream::iter([Err::<Frame, _>(missing.clone())]);

        let outcome = opened(items).await;

        assert_eq!(outcome.err(), Some(missing));
    }

    #[tokio::test]
    async fn an_opened_stream_lacks_nothing() {
        let items = stream::iter([Ok(1), Ok(2), Err(EngineError::Away("cut".into())), Ok(3)]);

        let seen: Vec<_> = opened(items).await.unwrap().collect().await;

        assert_eq!(
            seen,
            [Ok(1), Ok(2), Err(EngineError::Away("cut".into())), Ok(3)]
        );
        let empty = opened(stream::iter(Vec::<Result<u8, _>>::new())).await;
        assert_eq!(empty.unwrap().count().await, 0);
    }

    #[test]
    fn bounds_of_events_are_exact() {
        let bound = |told| event_time(told);

        assert_eq!(
            bound("2023-11-14T22:13:20.000000017Z").as_deref(),
            Some("1700000000.000000017")
        );
        assert_eq!(bound("0001-01-01T00:00:00Z"), None);
    }

    #[test]
    fn an_end_is_remembered_with_what_came_before_it() {
        let event = |action: &str, signal| EngineEvent {
            container: ContainerId("c".into()),
            action: action.into(),
            signal,
        };
        let told = |events: &[EngineEvent], in_all| remembered_end(events.iter().cloned(), in_all);
        let killed = [
            event("start", None),
            event("kill", Some(15)),
            event("die", None),
            event("kill", Some(9)),
        ];

        assert_eq!(told(&killed, 4), RememberedEnd::Seen(vec![15]));
        assert_eq!(told(&killed[2..], MEMORY), RememberedEnd::Seen(vec![]));
        assert_eq!(told(&killed[..2], 2), RememberedEnd::BeforeItsStart);
        assert_eq!(told(&[], MEMORY), RememberedEnd::Forgotten);
    }

    #[test]
    fn bytes_outside_of_a_frame_are_never_taken_for_output() {
        let message = Bytes::from_static(b"half a fra");

        assert!(matches!(
            frame(Ok(LogOutput::Console { message })),
            Err(EngineError::Away(_))
        ));
    }

    #[test]
    fn the_engines_own_words_in_a_stream_are_a_failure() {
        let message = Bytes::from_static(b"\x03\0\0\0\0\0\0\x12Error grabbing log\n");

        let outcome = frame(Ok(LogOutput::Console { message }));

        assert_eq!(
            outcome,
            Err(EngineError::Failed("Error grabbing log".into()))
        );
    }
}
