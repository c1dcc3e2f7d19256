//! What happened lately, for the observer: the edges in the lives of actors, and the course of each task from stage to stage. In
//! memory alone, and bounded: what is older is in the history and in the journal.
//!
//! The observer asks for what is new since the number in its last answer, so that an answer costs only what has changed.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use crate::{
    domain::{
        id::TaskId,
        record::{Change, Phase},
        text,
    },
    ports::{
        clock::{Clock, SystemClock},
        master::RunningTask,
    },
    supervision::{Edge, LifecycleEvent},
};

/// How many edges are kept: of an actor that falls once a second, the last quarter of an hour.
const EVENTS: usize = 1_000;

/// How many tasks are kept after they are done; those that are not are all kept.
const DONE: usize = 500;

/// How many stages of one task are kept: it has ten, and more only where it begins anew. From then on the last is replaced.
const STAGES: usize = 32;

/// Bytes of a cause that are kept: a panic may hold anybody's words.
const CAUSE: usize = 512;

/// One edge in the life of an actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number; events and changes of courses are counted together.
    pub number: u64,
    /// When the edge was heard of.
    pub at: SystemTime,
    /// The actor's name.
    pub actor: String,
    /// Which edge, as the history names it.
    pub edge: &'static str,
    /// The number of the actor's incarnation.
    pub generation: u64,
    /// Why it came to that edge. Untrusted.
    pub cause: Option<String>,
    /// Whether that is a failure.
    pub is_failure: bool,
}

/// One task, from stage to stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// The number of its last change.
    pub number: u64,
    /// The task's id.
    pub task: TaskId,
    /// The image that the master asked for; `None`: the task was accepted before this process began. Untrusted.
    pub image: Option<String>,
    /// The stages that the task came to, in the words of heartbeats, and when. A stage that lasts less than a look is left out.
    pub stages: Vec<(&'static str, SystemTime)>,
    /// How the task ended, once its verdict is fixed.
    pub outcome: Option<&'static str>,
    /// When the task was done.
    pub done: Option<SystemTime>,
}

/// What is new since a number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct News {
    /// The number to ask with the next time.
    pub number: u64,
    /// Events, the oldest first.
    pub events: Vec<Event>,
    /// Courses as they are now, in the order of their last changes.
    pub courses: Vec<Course>,
}

/// The timeline of one worker, shared by the watchers and the observer.
#[derive(Debug, Default)]
pub struct Timeline(Mutex<Lately>);

#[derive(Debug, Default)]
struct Lately {
    number: u64,
    events: VecDeque<Event>,
    courses: HashMap<TaskId, Course>,
    /// The tasks that are done, the oldest first.
    done: VecDeque<TaskId>,
}

impl Timeline {
    /// What came after `number`; everything that is kept, for 0.
    #[must_use]
    pub fn since(&self, number: u64) -> News {
        let lately = self.lock();
        let events = lately.events.iter().filter(|event| event.number > number);
        let courses = lately.courses.values();
        let mut courses: Vec<_> = courses
            .filter(|course| course.number > number)
            .cloned()
            .collect();
        courses.sort_unstable_by_key(|course| course.number);
        News {
            number: lately.number,
            events: events.cloned().collect(),
            courses,
        }
    }

    /// Takes in the present stages of the tasks that are not done.
    pub fn stages(&self, tasks: &[RunningTask]) {
        let mut lately = self.lock();
        let now = SystemClock.now();
        for task in tasks {
            lately.stage(&task.task, task.status, now);
        }
    }

    /// Takes in an edge. Ordinary starts and stops of tasks are left out: their courses say as much.
    pub(super) fn hear(&self, event: &LifecycleEvent) {
        let is_ordinary = matches!(
            event.edge,
            Edge::Starting | Edge::Started | Edge::Stopping | Edge::Stopped
        );
        if is_ordinary && !event.failure && event.actor.starts_with("task(") {
            return;
        }
        let mut lately = self.lock();
        let event = Event {
            number: lately.next(),
            at: SystemClock.now(),
            actor: event.actor.to_string(),
            edge: event.edge.as_str(),
            generation: event.generation,
            cause: event
                .cause
                .as_deref()
                .map(|why| text::truncate(why, CAUSE).to_owned()),
            is_failure: event.failure,
        };
        if lately.events.len() == EVENTS {
            lately.events.pop_front();
        }
        lately.events.push_back(event);
    }

    /// Takes in a change that became durable about a task.
    pub(super) fn change(&self, change: &Change) {
        match change {
            Change::Accept(record) if record.phase == Phase::Accepted => {
                self.lock().begin(&record.spec.id, &record.spec.image);
            }
            Change::Withdraw(task) => self.lock().forget(task),
            Change::Sealed { task, verdict } => {
                let outcome = super::journal::word(&verdict.outcome);
                self.lock().seal(task, outcome);
            }
            Change::Done { task, .. } => self.lock().close(task),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lately> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lately {
    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// The course of a task, with a new number as one that changes.
    fn course(&mut self, task: &TaskId) -> &mut Course {
        let number = self.next();
        let course = self.courses.entry(task.clone());
        let course = course.or_insert_with(|| Course {
            number,
            task: task.clone(),
            image: None,
            stages: Vec::new(),
            outcome: None,
            done: None,
        });
        course.number = number;
        course
    }

    /// Begins a task's course; one of the same id, done before, is forgotten.
    fn begin(&mut self, task: &TaskId, image: &str) {
        self.forget(task);
        let course = self.course(task);
        course.image = Some(image.to_owned());
        course.stages.push(("accepted", SystemClock.now()));
    }

    fn forget(&mut self, task: &TaskId) {
        self.courses.remove(task);
        self.done.retain(|done| done != task);
    }

    fn stage(&mut self, task: &TaskId, stage: &'static str, now: SystemTime) {
        let known = self.courses.get(task);
        let is_news = known.is_none_or(|course| {
            course.done.is_none() && course.stages.last().is_none_or(|(last, _)| *last != stage)
        });
        if !is_news {
            return;
        }
        let course = self.course(task);
        if course.stages.len() == STAGES {
            course.stages.pop();
        }
        course.stages.push((stage, now));
    }

    fn seal(&mut self, task: &TaskId, outcome: &'static str) {
        if self.is_open(task) {
            self.course(task).outcome = Some(outcome);
        }
    }

    fn is_open(&self, task: &TaskId) -> bool {
        let course = self.courses.get(task);
        course.is_some_and(|course| course.done.is_none())
    }

    /// Ends a task's course. It may have ended before: a restarted journal commits a step again.
    fn close(&mut self, task: &TaskId) {
        if !self.is_open(task) {
            return;
        }
        self.course(task).done = Some(SystemClock.now());
        if self.done.len() == DONE
            && let Some(oldest) = self.done.pop_front()
        {
            self.courses.remove(&oldest);
        }
        self.done.push_back(task.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(task: usize) -> TaskId {
        TaskId::new(format!("t-{task}")).unwrap()
    }

    fn at(task: usize, status: &'static str) -> RunningTask {
        RunningTask {
            task: id(task),
            cpu: 1.0,
            memory: 1.0,
            gpu: 0.0,
            status,
        }
    }

    fn done(task: usize) -> Change {
        Change::Done {
            task: id(task),
            at: SystemTime::UNIX_EPOCH,
        }
    }

    fn words(course: &Course) -> Vec<&'static str> {
        course.stages.iter().map(|(stage, _)| *stage).collect()
    }

    #[test]
    fn who_looks_again_hears_what_is_new_alone() {
        let timeline = Timeline::default();
        timeline.stages(&[at(1, "pulling"), at(2, "running")]);
        let first = timeline.since(0);
        assert_eq!(first.courses.len(), 2);

        timeline.stages(&[at(1, "creating"), at(2, "running")]);
        let second = timeline.since(first.number);
        assert_eq!(second.courses.len(), 1);
        assert_eq!(words(&second.courses[0]), ["pulling", "creating"]);
        assert_eq!(timeline.since(second.number).courses, []);
    }

    #[test]
    fn of_a_task_that_begins_anew_for_ever_a_few_stages_are_kept() {
        let timeline = Timeline::default();
        for _ in 0..1_000 {
            timeline.stages(&[at(1, "creating")]);
            timeline.stages(&[at(1, "starting")]);
        }
        assert_eq!(timeline.since(0).courses[0].stages.len(), STAGES);
    }

    #[test]
    fn what_is_done_makes_room_and_does_not_come_back() {
        let timeline = Timeline::default();
        for task in 0..=DONE {
            timeline.stages(&[at(task, "running")]);
            timeline.change(&done(task));
            timeline.change(&done(task));
        }
        timeline.stages(&[at(DONE, "cleaning")]);
        let courses = timeline.since(0).courses;
        assert_eq!(courses.len(), DONE);
        assert_eq!(courses[0].task, id(1));
        assert_eq!(words(&courses[DONE - 1]), ["running"]);
    }
}
