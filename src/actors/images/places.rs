//! The places for pulls. They go round by user: the next place is for the user who holds the fewest, and among those for the one
//! whose last place is the longest ago. A user who holds several is asked for one back while another user has none; the pull goes
//! on without it. This module knows nothing of images.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// The users that one pull is for. More may join while it waits.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish(Arc<Mutex<BTreeSet<String>>>);

impl Wish {
    fn users(&self) -> BTreeSet<String> {
        lock(&self.0).clone()
    }

    fn is_of(&self, user: &str) -> bool {
        lock(&self.0).contains(user)
    }
}

/// The places of one worker, and the line of pulls that wait.
#[derive(Debug)]
pub(super) struct Places(Mutex<Line>);

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    called_back: CancellationToken,
}

#[derive(Debug, Default)]
struct Line {
    free: usize,
    /// The number of the next pull that joins the line.
    next: u64,
    /// Places given out so far.
    turns: u64,
    held: Vec<Held>,
    waiting: Vec<Waiting>,
    /// For each user who waits or pulls: the number of the last place that was given out to one of his pulls.
    last: HashMap<String, u64>,
}

#[derive(Debug)]
struct Held {
    number: u64,
    wish: Wish,
    called_back: CancellationToken,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    wish: Wish,
    turn: oneshot::Sender<Place>,
}

impl Places {
    pub(super) fn new(at_once: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Line {
            free: at_once,
            ..Line::default()
        })))
    }

    /// Adds a user to a pull.
    pub(super) fn join(self: &Arc<Self>, wish: &Wish, user: &str) {
        lock(&wish.0).insert(user.to_owned());
        self.change(|_| {});
    }

    /// Waits for a place. `waits` is called if there is none at once.
    pub(super) async fn take(self: &Arc<Self>, wish: &Wish, waits: impl FnOnce()) -> Place {
        let (turn, mut mine) = oneshot::channel();
        self.change(|line| line.enter(wish.clone(), turn));
        if let Ok(place) = mine.try_recv() {
            return place;
        }
        waits();
        mine.await.expect("who waits stays in line until its turn")
    }

    /// Changes the line, then gives out the free places. The sending is done outside of the lock: a place that is not taken is
    /// dropped, which locks again.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut Line)) {
        let mut line = lock(&self.0);
        change(&mut line);
        let turns = line.give_out();
        drop(line);
        for (waiting, called_back) in turns {
            let place = Place {
                places: Arc::clone(self),
                number: waiting.number,
                called_back,
            };
            drop(waiting.turn.send(place));
        }
    }
}

impl Place {
    /// Resolves when a user without a place waits for this one.
    pub(super) async fn called_back(&self) {
        self.called_back.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.change(|line| {
            line.held.retain(|held| held.number != self.number);
            line.free += 1;
        });
    }
}

impl Line {
    fn enter(&mut self, wish: Wish, turn: oneshot::Sender<Place>) {
        let number = self.next;
        self.next += 1;
        self.waiting.push(Waiting { number, wish, turn });
    }

    fn give_out(&mut self) -> Vec<(Waiting, CancellationToken)> {
        self.waiting.retain(|waiting| !waiting.turn.is_closed());
        let mut turns = Vec::new();
        while self.free > 0
            && let Some(first) = self.first()
        {
            let waiting = self.waiting.remove(first);
            let called_back = CancellationToken::new();
            self.free -= 1;
            self.turns += 1;
            let turn = self.turns;
            let users = waiting.wish.users();
            self.last.extend(users.into_iter().map(|user| (user, turn)));
            self.held.push(Held {
                number: waiting.number,
                wish: waiting.wish.clone(),
                called_back: called_back.clone(),
            });
            turns.push((waiting, called_back));
        }
        self.call_back();
        self.forget();
        turns
    }

    /// The index of the pull whose turn is next.
    fn first(&self) -> Option<usize> {
        (0..self.waiting.len()).min_by_key(|index| {
            let waiting = &self.waiting[*index];
            let users = waiting.wish.users();
            let rank = users.iter().map(|user| {
                let last = self.last.get(user).copied().unwrap_or_default();
                (self.held_by(user), last)
            });
            (rank.min(), waiting.number)
        })
    }

    fn kept(&self) -> impl Iterator<Item = &Held> {
        let kept = |held: &&Held| !held.called_back.is_cancelled();
        self.held.iter().filter(kept)
    }

    fn held_by(&self, user: &str) -> usize {
        self.kept().filter(|held| held.wish.is_of(user)).count()
    }

    /// For each waiting user without a place, asks a user who has several for one back.
    fn call_back(&self) {
        let waiting = self.waiting.iter().flat_map(|one| one.wish.users());
        let without: BTreeSet<_> = waiting.filter(|user| self.held_by(user) == 0).collect();
        let coming = self.held.len() - self.kept().count();
        for _ in coming..without.len() {
            let users = self.kept().flat_map(|held| held.wish.users());
            let Some(most) = users.max_by_key(|user| self.held_by(user)) else {
                return;
            };
            let mut theirs = self.kept().filter(|held| held.wish.is_of(&most));
            let (Some(oldest), Some(_)) = (theirs.next(), theirs.next()) else {
                return;
            };
            oldest.called_back.cancel();
        }
    }

    /// Forgets users who neither wait nor pull.
    fn forget(&mut self) {
        let waiting = self.waiting.iter().map(|waiting| &waiting.wish);
        let wishes = waiting.chain(self.held.iter().map(|held| &held.wish));
        let here: BTreeSet<_> = wishes.flat_map(Wish::users).collect();
        self.last.retain(|user, _| here.contains(user));
    }
}

/// Takes a lock even after a panic of its holder: the data is never left half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt;

    use super::*;

    type Turn = Pin<Box<dyn Future<Output = Place>>>;

    fn wish(places: &Arc<Places>, user: &str) -> Wish {
        let wish = Wish::default();
        places.join(&wish, user);
        wish
    }

    /// A pull in the line, polled once.
    fn wait(places: &Arc<Places>, user: &str) -> Turn {
        let (wish, places) = (wish(places, user), Arc::clone(places));
        let mut turn: Turn = Box::pin(async move { places.take(&wish, || {}).await });
        assert!(
            turn.as_mut().now_or_never().is_none(),
            "{user} need not wait"
        );
        turn
    }

    fn take(places: &Arc<Places>, user: &str) -> Place {
        let wish = wish(places, user);
        let taken = places.take(&wish, || panic!("{user} has to wait"));
        taken.now_or_never().expect("a free place")
    }

    fn has_turn(turn: &mut Turn) -> Option<Place> {
        turn.as_mut().now_or_never()
    }

    fn is_called_back(place: &Place) -> bool {
        place.called_back().now_or_never().is_some()
    }

    #[test]
    fn a_user_with_all_places_gives_one_back_when_another_waits() {
        let places = Places::new(3);
        let mut stuck: Vec<_> = (0..3).map(|_| take(&places, "mallory")).collect();
        let _more: Vec<_> = (0..3).map(|_| wait(&places, "mallory")).collect();
        assert!(!stuck.iter().any(is_called_back), "nobody else waits");

        let mut honest = wait(&places, "ann");
        let called: Vec<_> = stuck.iter().map(is_called_back).collect();
        assert_eq!(called, [true, false, false]);

        drop(stuck.remove(0));
        let ann = has_turn(&mut honest).expect("it is hers, not mallory's next");
        assert!(!stuck.iter().any(is_called_back), "mallory keeps the rest");
        drop(ann);
    }

    #[test]
    fn places_go_round_by_user_whoever_has_asked_for_the_most() {
        let places = Places::new(1);
        let mut place = Some(take(&places, "mallory"));
        let mut line: Vec<_> = ["mallory", "mallory", "mallory", "ann", "bob"]
            .map(|user| (user, wait(&places, user)))
            .into_iter()
            .collect();
        let mut served = Vec::new();

        while !line.is_empty() {
            drop(place.take());
            let next = line.iter_mut().position(|(_, turn)| {
                place = has_turn(turn);
                place.is_some()
            });
            served.push(line.remove(next.expect("somebody's turn")).0);
        }

        assert_eq!(served, ["ann", "bob", "mallory", "mallory", "mallory"]);
    }

    #[test]
    fn an_image_that_two_users_want_has_the_better_turn_of_both() {
        let places = Places::new(1);
        let place = take(&places, "mallory");
        let mut first = wait(&places, "mallory");
        let common = wish(&places, "mallory");
        let mut second: Turn = {
            let (places, common) = (Arc::clone(&places), common.clone());
            Box::pin(async move { places.take(&common, || {}).await })
        };
        assert!(has_turn(&mut second).is_none());

        places.join(&common, "ann");
        drop(place);

        assert!(has_turn(&mut first).is_none());
        assert!(has_turn(&mut second).is_some());
    }

    #[test]
    fn who_leaves_the_line_or_never_took_a_turn_keeps_nobody_waiting() {
        let places = Places::new(1);
        let place = take(&places, "ann");
        let left = wait(&places, "bob");
        let never_looks = wait(&places, "carl");
        let mut last = wait(&places, "dora");
        drop(left);
        drop(place);

        assert!(has_turn(&mut last).is_none(), "it is carl's");
        drop(never_looks);

        assert!(has_turn(&mut last).is_some());
    }
}
