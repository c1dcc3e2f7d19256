//! Streams out of the engine: a container's output, byte for byte. The end of one says nothing about the container.

use std::{pin::Pin, time::SystemTime};

use bollard::{container::LogOutput, errors::Error, query_parameters::AttachContainerOptions};
use futures_util::{Stream, StreamExt, TryStreamExt, future::ready, stream};

use super::{DockerEngine, call::path_part, events::bound, failure, record};
use crate::{
    domain::{id::ContainerId, log_line::Source, text},
    ports::engine::{EngineError, Frame, Frames},
};

/// The kind of frame with which the engine reports a failure of its own.
const ENGINE_WORDS: u8 = 3;

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

    /// The record from `since` on to its present end.
    pub(super) async fn open_logs(
        &self,
        container: &ContainerId,
        since: SystemTime,
    ) -> Result<Frames, EngineError> {
        let since = format!("since={}", bound(since));
        opened(Box::pin(self.record(container, &since)?)).await
    }

    /// The record from `since` on, as it grows. The first item may be long in coming: a container may say nothing for hours.
    pub(super) fn follow_logs(
        &self,
        container: &ContainerId,
        since: SystemTime,
    ) -> Result<Frames, EngineError> {
        let wanted = format!("follow=1&since={}", bound(since));
        Ok(Box::pin(self.record(container, &wanted)?))
    }

    /// When the last entry of the record was written; `None`: it has none.
    pub(super) async fn read_last_time(
        &self,
        container: &ContainerId,
    ) -> Result<Option<SystemTime>, EngineError> {
        let mut last = Box::pin(self.record(container, "tail=1")?);
        Ok(last.try_next().await?.and_then(|frame| frame.time))
    }

    fn record(
        &self,
        container: &ContainerId,
        wanted: &str,
    ) -> Result<impl Stream<Item = Result<Frame, EngineError>> + Send + use<>, EngineError> {
        let id = path_part(&container.0)?;
        let path = format!("/containers/{id}/logs?stdout=1&stderr=1&timestamps=1&{wanted}");
        Ok(record::frames(&self.line, path))
    }
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
        // Our containers have no console: the client gives this name to bytes outside of the frames that it knows. One kind of
        // frame it does not know: the engine's own words about a log that it cannot read on.
        LogOutput::Console { message } if message.first() == Some(&ENGINE_WORDS) => {
            let said = message.get(FRAME_HEADER..).unwrap_or_default();
            return Err(engine_words(said));
        }
        // All other such bytes are the rest of a frame that was cut off.
        LogOutput::Console { message } => {
            let bytes = message.len();
            let said = format!("the stream broke off within a frame, {bytes} bytes into it");
            return Err(EngineError::Away(said));
        }
    };
    Ok(Frame {
        source,
        bytes,
        time: None,
    })
}

/// The error for a frame in which the engine reports a failure of its own in place of output.
pub(super) fn engine_words(said: &[u8]) -> EngineError {
    EngineError::Failed(text::repair_utf8(said).trim().into())
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
