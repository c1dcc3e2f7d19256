//! Finds children that do not answer, fences them off, and leaves blocked arbiters behind.
//!
//! Static children are pinged one by one through their mailboxes. Pool arbiters are pinged as arbiters: on a hang, the child
//! whose poll holds the thread is charged, and the others move to another arbiter without charge.

use std::time::Duration;

use tokio::time::Instant;

use super::Tree;
use crate::{
    domain::restart::{ChildKind, Ending, RestartType},
    supervision::{
        child::{Next, State},
        event::{Edge, LifecycleEvent},
        exit::Exit,
        handle::Ended,
        incarnation::ChildKey,
        ping::Ping,
        places::PlaceId,
        spec::Placement,
        timers::Due,
    },
};

/// The least time between two looks: an interval of zero would leave no time for anything else.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

impl Tree {
    pub(super) fn arm_look(&mut self) {
        let interval = self.options.ping.interval.max(SHORTEST_INTERVAL);
        self.timers.add(Instant::now() + interval, Due::Look);
    }

    /// Judges overdue pings and sends new ones. When the supervisor itself was held up (the process was stopped, the machine
    /// slept), its children were too, and none of them is judged.
    pub(super) fn look(&mut self) {
        let now = Instant::now();
        let ping = self.options.ping;
        let held_up = now.duration_since(self.last_look) > ping.interval + ping.deadline / 2;
        self.last_look = now;
        if held_up {
            self.forgive(now);
        } else {
            self.judge_places(now);
            self.judge_statics(now);
        }
        self.ping_statics(now);
        self.places.ping_pool(now);
        self.arm_look();
        self.advance();
    }

    fn forgive(&mut self, now: Instant) {
        self.places.forgive(now);
        for child in self.children.iter_mut() {
            let waited = child.place.map(|place| self.places.waited(place));
            if let Some(life) = child.pinged_life() {
                life.pinged = life.pinged.map(|_| now);
                life.waited = waited.unwrap_or_default();
            }
        }
    }

    fn ping_statics(&mut self, now: Instant) {
        for key in self.children.order().to_vec() {
            let Some(child) = self.children.get_mut(key) else {
                continue;
            };
            let generation = child.generation;
            let place = child.place;
            let Some(life) = child.pinged_life() else {
                continue;
            };
            if life.pinged.is_none() {
                life.pinged = Some(now);
                life.waited = place.map_or(Duration::ZERO, |place| self.places.waited(place));
                child.launch.ping(Ping::new(key, generation, &self.signals));
            }
        }
    }

    fn judge_statics(&mut self, now: Instant) {
        for key in self.children.order().to_vec() {
            if let Some(silent_for) = self.overdue(key, now) {
                self.hung(key, format!("no answer to a ping for {silent_for:.1?}"));
            }
        }
    }

    /// How long a child has not answered, if that is too long. Time in which its thread waited for a core does not count.
    fn overdue(&self, key: ChildKey, now: Instant) -> Option<Duration> {
        let child = self.children.get(key)?;
        let (life, limit) = match &child.state {
            State::Starting(life) => (life, self.options.ping.start_deadline),
            State::Running(life) => (life, self.options.ping.deadline),
            _ => return None,
        };
        let waits = child.place.map(|place| self.places.waited(place));
        let waits = waits.unwrap_or_default().saturating_sub(life.waited);
        let silent_for = now.duration_since(life.pinged?).saturating_sub(waits);
        let place_is_silent = child
            .place
            .is_some_and(|place| self.places.owes_answer(place));
        (silent_for >= limit && !place_is_silent).then_some(silent_for)
    }

    /// Declares the present incarnation of a child hung: what still runs of it no longer counts.
    fn hung(&mut self, key: ChildKey, cause: String) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        if let Some(life) = child.life() {
            life.incarnation.fence_off(Ending::Failure);
        }
        // An arbiter of the pool is judged by its own pings.
        if let (Placement::OwnArbiter, Some(place)) = (child.placement, child.place.take()) {
            self.places.abandon(place);
        }
        self.ended(key, Exit::Hung, Some(cause.clone()));
        self.count_abandoned(key, &cause);
    }

    fn count_abandoned(&mut self, key: ChildKey, cause: &str) {
        if self.ending.is_some() || self.places.abandoned() <= self.options.abandoned_limit {
            return;
        }
        let child = self.children.get(key);
        let why = Ended::Escalated {
            child: child.map_or_else(|| "pool".into(), |child| child.name.clone()),
            reason: format!(
                "more than {} arbiters are blocked: {cause}",
                self.options.abandoned_limit
            ),
        };
        self.stop_all(why, None);
    }

    /// A child has used up its time to stop.
    pub(super) fn overstayed(&mut self, key: ChildKey) {
        let Some(child) = self.children.get(key) else {
            return;
        };
        let cause = format!("did not stop within {:?}", child.shutdown);
        self.give_up_waiting(key, cause);
        self.advance();
    }

    /// Ends the wait for a child, in whatever state it is: a living incarnation is fenced off.
    pub(super) fn give_up_waiting(&mut self, key: ChildKey, cause: String) {
        let Some(child) = self.children.get(key) else {
            return;
        };
        if child.life().is_none() {
            return self.down(key, Next::Rest);
        }
        if let Some(ending) = self.ending.as_mut() {
            ending.count_killed(child);
        }
        self.hung(key, cause);
    }

    fn judge_places(&mut self, now: Instant) {
        for (place, culprit) in self.places.overdue(now, self.options.ping.deadline) {
            self.clear_place(place, culprit);
        }
    }

    /// A pool arbiter is blocked: the child that holds its thread is charged, and the others move.
    fn clear_place(&mut self, place: PlaceId, culprit: Option<ChildKey>) {
        self.places.abandon(place);
        let mut residents = Vec::new();
        for child in self.children.iter_mut() {
            if child.place == Some(place) {
                child.place = None;
                residents.push(child.key);
            }
        }
        let name = culprit
            .and_then(|key| self.children.get(key))
            .map(|child| child.name.clone());
        let name = name.as_deref().unwrap_or("an unknown task").to_owned();
        for key in residents {
            if Some(key) == culprit {
                self.hung(key, "blocked its arbiter".to_owned());
            } else {
                self.move_over(key, &name);
            }
        }
        self.count_abandoned(
            culprit.unwrap_or(ChildKey(0)),
            &format!("{name} blocked its arbiter"),
        );
    }

    /// Replaces an incarnation whose arbiter was blocked by another child.
    fn move_over(&mut self, key: ChildKey, culprit: &str) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        let Some(life) = child.life() else {
            return;
        };
        life.incarnation.fence_off(Ending::Normal);
        let unasked = matches!(child.state, State::Starting(_) | State::Running(_));
        if !unasked || child.restart == RestartType::Temporary {
            return self.ended(key, Exit::Dropped, None);
        }
        child.take_life();
        child
            .launch
            .vacate(crate::supervision::slot::Successor::Coming);
        let mut event = LifecycleEvent::new(Edge::Restarting, &child.name, child.generation);
        let cause = format!("its arbiter was blocked by {culprit}");
        event.cause = Some(cause.clone());
        child.last_reason = Some(cause);
        let kind = child.kind;
        child.state = State::Pending { ordered: false };
        self.emit(&event);
        if kind == ChildKind::Dynamic {
            self.start(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use actix::{Actor, Context};
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::supervision::{
        ChildSpec, SupervisorOptions, ping::Signal, slot, tree::Progress, view::ChildState,
    };

    struct Idle;

    crate::answers_pings!(Idle);

    impl Actor for Idle {
        type Context = Context<Self>;
    }

    /// A tree with one child, fed by hand: no signal reaches the tree unless the test delivers it.
    fn tree() -> (Tree, mpsc::UnboundedReceiver<Signal>) {
        let (_, seat) = slot::<Idle>("idle");
        let spec = ChildSpec::new(seat, |_| Ok(Idle)).placement(Placement::SupervisorsArbiter);
        let (sender, signals) = mpsc::unbounded_channel();
        let progress = Progress {
            ready: watch::Sender::new(false),
            report: watch::Sender::new(None),
        };
        let options = SupervisorOptions::default();
        let mut tree = Tree::new(options, vec![spec], Vec::new(), (sender, progress));
        tree.begin();
        (tree, signals)
    }

    async fn deliver(tree: &mut Tree, signals: &mut mpsc::UnboundedReceiver<Signal>) {
        let signal = signals.recv().await.unwrap();
        tree.signal(signal);
    }

    fn generation(tree: &Tree) -> u64 {
        tree.views()[0].generation
    }

    #[actix::test]
    async fn nobody_is_judged_when_the_supervisor_itself_was_held_up() {
        tokio::time::pause();
        let (mut tree, _signals) = tree();

        tokio::time::advance(Duration::from_secs(60)).await;
        tree.look();
        assert_eq!(generation(&tree), 1, "its answer may be on its way");

        for _ in 0..20 {
            tokio::time::advance(tree.options.ping.interval).await;
            tree.look();
        }
        assert_eq!(generation(&tree), 2, "it had its time again, and more");
    }

    #[actix::test]
    async fn answers_that_are_waiting_are_heard_before_anybody_is_judged() {
        tokio::time::pause();
        let (mut tree, mut signals) = tree();
        let late = tree.options.ping.start_deadline + Duration::from_secs(1);
        tree.last_look = Instant::now() + late;
        tokio::time::advance(late).await;

        // Published, answered; then the look that fell due meanwhile comes behind both.
        tree.due(Instant::now());
        for _ in 0..3 {
            deliver(&mut tree, &mut signals).await;
        }

        assert_eq!(generation(&tree), 1);
        assert_eq!(tree.views()[0].state, ChildState::Running);
    }

    fn exited(generation: u64) -> Signal {
        Signal::Exited {
            key: ChildKey(1),
            generation,
            exit: Exit::Failed("told to".to_owned()),
        }
    }

    #[actix::test]
    async fn an_answer_of_the_last_incarnation_does_not_make_the_present_one_run() {
        tokio::time::pause();
        let (mut tree, _signals) = tree();
        let answered = |generation| Signal::Answered {
            key: ChildKey(1),
            generation,
        };

        tree.signal(exited(1));
        tree.signal(answered(1));
        assert_eq!(tree.views()[0].state, ChildState::Starting);

        tree.signal(answered(2));
        assert_eq!(tree.views()[0].state, ChildState::Running);
    }

    #[actix::test]
    async fn a_backoff_that_is_cut_short_leaves_no_timer() {
        tokio::time::pause();
        let (mut tree, _signals) = tree();
        tree.signal(exited(1));
        tree.signal(exited(2));
        assert_eq!(tree.views()[0].state, ChildState::Backoff);

        let told = tree.stop_child("idle").unwrap();

        assert_eq!(told.await, Ok(()));
        let end_of_time = Instant::now() + Duration::from_secs(3_600);
        let left: Vec<Due> = std::iter::from_fn(|| tree.timers.pop(end_of_time)).collect();
        assert_eq!(left, [Due::Look]);
    }
}
