//! Starts a task's actor as a child of the supervisor. A task that can never begin gets no actor: its result goes to the outbox.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix::{AsyncContext, Context, WrapFuture};
use log::error;

use super::{RegistryActor, entry::TaskNews};
use crate::{
    actors::task::{Beginning, TaskActor},
    domain::{id::TaskId, record::TaskRecord},
    failpoint,
    supervision::{self, ChildSpec, Slot, slot},
};

impl RegistryActor {
    /// Starts a task that has just been accepted: it can have no container yet.
    pub(super) fn launch(&mut self, record: &TaskRecord, ctx: &mut Context<Self>) {
        self.start(record, Beginning::Fresh, ctx);
    }

    /// Starts a task that was accepted earlier: its actor first asks the engine for its container.
    pub(super) fn launch_again(&mut self, record: &TaskRecord, ctx: &mut Context<Self>) {
        self.start(record, Beginning::Again, ctx);
    }

    fn start(&mut self, record: &TaskRecord, beginning: Beginning, ctx: &mut Context<Self>) {
        if !supervision::is_current() {
            // This registry was replaced; its successor has started the tasks.
            return;
        }
        let task = record.spec.id.clone();
        if self
            .tasks
            .get(&task)
            .is_some_and(|entry| entry.is_impossible)
        {
            // It has no container to look for or to remove, so it needs no actor, and costs no more than its result does.
            self.deliver_without_actor(record.clone(), ctx);
            return;
        }
        if let Some(running) = self.peers.directory.find(&task) {
            // The registry was restarted, but the task's actor runs on.
            self.set_slot(&task, running);
            return;
        }
        let (slot, seat) = slot::<TaskActor>(format!("task({})", task.as_str().escape_debug()));
        self.peers.directory.put(task.clone(), slot.clone());
        self.set_slot(&task, slot);
        let (env, record) = (Arc::clone(&self.peers.env), record.clone());
        let spec = ChildSpec::new(seat, move |_| {
            Ok(TaskActor::new(record.clone(), beginning, Arc::clone(&env)))
        });
        let news = self.peers.env.news.clone();
        let spec = spec.on_gave_up(move |end| {
            let _ = news.send(TaskNews::GaveUp(
                task,
                format!("its actor failed too often, last: {}", end.exit),
            ));
        });
        let mut supervisor = self.peers.supervisor.clone();
        let start = async move {
            failpoint!("registry.start_task");
            let handle = supervisor
                .wait_for(Option::is_some)
                .await
                .ok()
                .and_then(|handle| handle.clone());
            if let Some(handle) = handle
                && let Err(refused) = handle.start_child(spec).await
            {
                error!(refused:%; "a task's actor could not be started");
            }
        };
        ctx.spawn(start.into_actor(self));
    }

    fn set_slot(&mut self, task: &TaskId, slot: Slot<TaskActor>) {
        if let Some(entry) = self.tasks.get_mut(task) {
            entry.slot = Some(slot);
        }
    }
}

/// The slots of running tasks' actors, kept outside of the registry so that its next incarnation finds them.
#[derive(Default)]
pub struct TaskDirectory(Mutex<HashMap<TaskId, Slot<TaskActor>>>);

impl TaskDirectory {
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Slot<TaskActor>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, task: &TaskId) -> Option<Slot<TaskActor>> {
        self.lock()
            .get(task)
            .filter(|slot| !slot.is_closed())
            .cloned()
    }

    fn put(&self, task: TaskId, slot: Slot<TaskActor>) {
        self.lock().insert(task, slot);
    }

    pub(super) fn remove(&self, task: &TaskId) {
        self.lock().remove(task);
    }
}
