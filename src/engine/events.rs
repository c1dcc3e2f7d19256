//! The engine's events: a stream of hints from now on, and the last few that it remembers.

use std::{collections::HashMap, time::SystemTime};

use bollard::{errors::Error, models::EventMessage, query_parameters::EventsOptions};
use futures_util::{StreamExt, TryStreamExt, future::ready};

use super::{DockerEngine, call::path_part, failure, labels};
use crate::{
    domain::id::{ContainerId, WorkerId},
    ports::engine::{EngineError, EngineEvent, Events, RememberedEnd, ToldEnd},
};

/// How many events an engine remembers at most, in every version until now.
const MEMORY: usize = 256;

impl DockerEngine {
    /// Opens a stream that begins at the engine's own time of this call, so that no event is missed until it is first read.
    pub(super) async fn open_events(&self, worker: &WorkerId) -> Result<Events, EngineError> {
        let options = EventsOptions {
            since: Some(bound(self.engine_time().await?)),
            until: None,
            filters: Some(with_type(labels::filter_of(worker))),
        };
        let messages = self.line.docker()?.events(Some(options));
        Ok(Box::pin(
            messages.filter_map(|message| ready(hint(message))),
        ))
    }

    /// Whether the engine remembers a start of this container among its last events since its own start.
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
            until: Some(bound(self.engine_time().await?)),
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

    /// Whether the engine remembers an event from before `time`; it remembers none from before its own start.
    pub(super) async fn remembers_before(&self, time: SystemTime) -> Result<bool, EngineError> {
        let events = self.events_between("0".into(), bound(time)).await?;
        Ok(!events.is_empty())
    }

    /// What the engine remembers of this container's end. Asks for all events, since only their number shows whether its memory is
    /// full.
    pub(super) async fn remembers_end(
        &self,
        container: &ContainerId,
    ) -> Result<RememberedEnd, EngineError> {
        let asked = bound(self.engine_time().await?);
        let events = self.events_between("0".into(), asked.clone()).await?;
        let mut count = events.len();
        if count < MEMORY {
            // Events that came during the question pushed older ones out, and are not in the answer.
            let since = self.events_between(asked, bound(self.engine_time().await?));
            count += since.await?.len();
        }
        let events = events.into_iter().filter_map(event);
        let its = events.filter(|event| event.container == *container);
        Ok(remembered_end(its, count))
    }

    /// The events between two times, of every kind of object, not of containers alone.
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

    pub(super) async fn engine_time(&self) -> Result<SystemTime, EngineError> {
        let info = self.line.docker()?.info().await.map_err(failure::of_call)?;
        info.system_time
            .as_deref()
            .and_then(labels::read_time)
            .ok_or_else(|| EngineError::Failed("the engine does not tell its time".into()))
    }
}

fn event_time(told: &str) -> Option<String> {
    labels::read_time(told).map(bound)
}

/// A bound as the engine reads it: seconds and nanoseconds since the epoch, though it writes RFC 3339. An earlier time is the
/// epoch.
pub(super) fn bound(time: SystemTime) -> String {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH);
    let since_epoch = since_epoch.unwrap_or_default();
    let (seconds, nanos) = (since_epoch.as_secs(), since_epoch.subsec_nanos());
    format!("{seconds}.{nanos:09}")
}

fn with_type(mut filters: HashMap<String, Vec<String>>) -> HashMap<String, Vec<String>> {
    filters.insert("type".into(), vec!["container".into()]);
    filters
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

/// What one container's events tell of its end; `in_all` is how many events the engine remembers of all containers.
fn remembered_end(events: impl Iterator<Item = EngineEvent>, in_all: usize) -> RememberedEnd {
    let (mut told, mut died) = (ToldEnd::default(), false);
    for event in events {
        match event.action.as_str() {
            "kill" if !died => told.signals.extend(event.signal),
            "oom" => told.out_of_memory = true,
            "die" => died = true,
            _ => {}
        }
    }
    if died {
        RememberedEnd::Seen(told)
    } else if in_all < MEMORY {
        RememberedEnd::BeforeItsStart
    } else {
        RememberedEnd::Forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let seen = |signals: &[i64], out_of_memory| {
            RememberedEnd::Seen(ToldEnd {
                signals: signals.to_vec(),
                out_of_memory,
            })
        };
        let killed = [
            event("start", None),
            event("kill", Some(15)),
            event("die", None),
            event("kill", Some(9)),
        ];

        assert_eq!(told(&killed, 4), seen(&[15], false));
        assert_eq!(told(&killed[2..], MEMORY), seen(&[], false));
        assert_eq!(told(&killed[..2], 2), RememberedEnd::BeforeItsStart);
        assert_eq!(told(&[], MEMORY), RememberedEnd::Forgotten);
        for order in [["oom", "die"], ["die", "oom"]] {
            assert_eq!(
                told(&order.map(|action| event(action, None)), 2),
                seen(&[], true)
            );
        }
    }
}
