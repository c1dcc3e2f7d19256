//! Images: found on the engine or pulled, one pull per image, however many tasks wait for it. A task gets a ticket, and its
//! waiting drives the pull; when the last ticket is dropped (all its tasks were cancelled) the pull ends. Which pull has a place:
//! `places`.

mod latest;
mod places;

use std::{collections::HashMap, sync::Arc, time::Duration};

use actix::{Actor, Context, Handler, Message, MessageResult};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::{
    sync::{broadcast, mpsc},
    time::{Instant, sleep, timeout_at},
};

use self::{
    latest::Silent,
    places::{Place, Places, Wish},
};
use super::engine_watch::{EngineView, ride_out};
use crate::{
    domain::{
        patience::Patience,
        record::Change,
        shelf::{Brought, Stored},
    },
    failpoint,
    ports::engine::{ContainerEngine, EngineError, Image, ImageRef},
};

/// Pulls at the same time: more would only share the same network.
const PARALLEL_PULLS: usize = 3;

/// A pull that makes no progress for this long has failed; extracting counts as progress.
const PULL_INACTIVITY: Duration = Duration::from_secs(120);

/// The longest time that a pull may take in all.
const PULL_TOTAL: Duration = Duration::from_secs(3_600);

/// A pull that has had its place for `PLACE_TIME`, or has made no progress for `PLACE_SILENCE`, leaves the place to the next one
/// and goes on without: three slow registries must not stop all other pulls. A pull whose user holds several places leaves it as
/// soon as another user waits.
const PLACE_TIME: Duration = Duration::from_secs(60);
const PLACE_SILENCE: Duration = Duration::from_secs(10);

/// Progress lines that a slow listener may lag behind by; beyond that it misses lines.
const PROGRESS_LINES: usize = 256;

/// When the registry is asked for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// When the image is not here, or its name may move and the registry has another image under it by now. If the registry
    /// cannot tell, the image that is here is used.
    #[default]
    Auto,
    /// Only when the image is not here.
    Missing,
    /// For every task.
    Always,
    /// Never: an image that is not here is a failure.
    Never,
}

/// The image, or why there is none: the engine's or the registry's words.
pub type PullResult = Result<Image, String>;

type SharedPull = Shared<BoxFuture<'static, PullResult>>;

/// Asks for an image. Idempotent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "PullTicket")]
pub struct GetImage {
    /// The image.
    pub image: ImageRef,
    /// The user it is for: places go round by user.
    pub user: String,
}

/// A share in a pull, which ends when all its tickets are dropped.
#[derive(Debug)]
pub struct PullTicket {
    /// Resolves when the image is here, or the pull has failed. The futures that wait for it drive it.
    pub image: SharedPull,
    /// Lines about the pull's progress, for people.
    pub progress: broadcast::Receiver<String>,
}

struct Pull {
    running: WeakShared<BoxFuture<'static, PullResult>>,
    progress: broadcast::Sender<String>,
    wish: Wish,
}

/// The actor that shares pulls. See the module.
pub struct ImagesActor {
    puller: Arc<Puller>,
    pulls: HashMap<ImageRef, Pull>,
}

/// Writes a finished pull into the journal, without being waited for: an image whose pull was not written down is never removed.
pub type NotePull = Arc<dyn Fn(Change) + Send + Sync>;

struct Puller {
    engine: Arc<dyn ContainerEngine>,
    view: Arc<EngineView>,
    policy: PullPolicy,
    patience: Patience,
    places: Arc<Places>,
    silent: Silent,
    note: NotePull,
}

impl ImagesActor {
    /// An actor that pulls through `engine`, and has each pull written down by `note`.
    #[must_use]
    pub fn new(
        engine: Arc<dyn ContainerEngine>,
        view: Arc<EngineView>,
        policy: PullPolicy,
        patience: Patience,
        note: NotePull,
    ) -> Self {
        let places = Places::new(PARALLEL_PULLS);
        Self {
            puller: Arc::new(Puller {
                engine,
                view,
                policy,
                patience,
                places,
                silent: Silent::default(),
                note,
            }),
            pulls: HashMap::new(),
        }
    }

    fn begin(&mut self, image: ImageRef, user: &str) -> PullTicket {
        self.pulls
            .retain(|_, pull| pull.running.upgrade().is_some());
        let (progress, listener) = broadcast::channel(PROGRESS_LINES);
        let puller = Arc::clone(&self.puller);
        let (name, lines, wish) = (image.clone(), progress.clone(), Wish::default());
        puller.places.join(&wish, user);
        let wanted = wish.clone();
        let running = async move { puller.get(&name, &wanted, &lines).await }
            .boxed()
            .shared();
        if let Some(weak) = running.downgrade() {
            self.pulls.insert(
                image,
                Pull {
                    running: weak,
                    progress,
                    wish,
                },
            );
        }
        PullTicket {
            image: running,
            progress: listener,
        }
    }
}

impl Actor for ImagesActor {
    type Context = Context<Self>;
}

crate::answers_pings!(ImagesActor);

impl Handler<GetImage> for ImagesActor {
    type Result = MessageResult<GetImage>;

    fn handle(
        &mut self,
        GetImage { image, user }: GetImage,
        _: &mut Self::Context,
    ) -> Self::Result {
        failpoint!("images.GetImage", image);
        let running = self
            .pulls
            .get(&image)
            .and_then(|pull| Some((pull.running.upgrade()?, pull)));
        MessageResult(match running {
            // A finished pull answers for the time when it was asked for, not for now.
            Some((running, pull)) if running.peek().is_none() => {
                self.puller.places.join(&pull.wish, &user);
                PullTicket {
                    image: running,
                    progress: pull.progress.subscribe(),
                }
            }
            Some(_) | None => self.begin(image, &user),
        })
    }
}

impl Puller {
    async fn get(
        &self,
        image: &ImageRef,
        wish: &Wish,
        lines: &broadcast::Sender<String>,
    ) -> PullResult {
        if self.policy == PullPolicy::Always {
            return self.pull(image, wish, lines).await;
        }
        match (self.find(image).await?, self.policy) {
            (Some(here), PullPolicy::Auto) if image.is_latest() => {
                Ok(self.renew(image, here, wish, lines).await)
            }
            (Some(here), _) => Ok(here),
            (None, PullPolicy::Never) => Err(format!(
                "{} is not on this machine, and --pull is never",
                image.0
            )),
            (None, _) => self.pull(image, wish, lines).await,
        }
    }

    /// What the registry has by now; if that cannot be had, the image that is here, with a line that says why.
    async fn renew(
        &self,
        image: &ImageRef,
        here: Image,
        wish: &Wish,
        lines: &broadcast::Sender<String>,
    ) -> Image {
        let newer = match self.silent.ask(self.engine.as_ref(), image).await {
            Ok(digest) if here.has_digest(&digest) => return here,
            Ok(_) => self.pull(image, wish, lines).await,
            Err(why) => Err(why),
        };
        newer.unwrap_or_else(|why| {
            let _ = lines.send(format!(
                "[worker-node] {} is used as it is here; a newer one could not be had: {why}",
                image.0
            ));
            here
        })
    }

    /// Waits for a place. The task's log says so, if it has to wait.
    async fn place(&self, wish: &Wish, lines: &broadcast::Sender<String>) -> Place {
        let say = || {
            // It is fine if no one listens.
            let _ = lines.send("[worker-node] waiting for a turn to pull".into());
        };
        self.places.take(wish, say).await
    }

    async fn find(&self, image: &ImageRef) -> Result<Option<Image>, String> {
        loop {
            match self.engine.find_image(image).await {
                Ok(found) => return Ok(found),
                Err(error @ (EngineError::Away(_) | EngineError::Deadline(_))) => {
                    ride_out(&self.view, &error).await
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    async fn pull(
        &self,
        image: &ImageRef,
        wish: &Wish,
        lines: &broadcast::Sender<String>,
    ) -> PullResult {
        let (mut failures, mut first) = (0, None);
        loop {
            // The place is held for one try, and not while waiting for the next.
            let place = self.place(wish, lines).await;
            let _ = lines.send(format!("[worker-node] pulling image {}", image.0));
            let error = match self.pull_once(image, place, lines).await {
                Ok(image) => return Ok(image),
                Err(error) => error,
            };
            if matches!(error, EngineError::Away(_)) {
                ride_out(&self.view, &error).await;
                continue;
            }
            if !error.passes() {
                return Err(error.to_string());
            }
            let lasted = first.get_or_insert_with(Instant::now).elapsed();
            let said = error.to_string();
            let Some(wait) = self.patience.wait(lasted, failures, &said, fastrand::f64()) else {
                let tries = failures + 1;
                return Err(format!("{said} (tried {tries} times in {lasted:.1?})"));
            };
            failures += 1;
            let _ = lines.send(format!(
                "[worker-node] the pull failed: {said}; again in {wait:.1?}"
            ));
            sleep(wait).await;
        }
    }

    /// Pulls, and writes the pull down. An image that is not proven new counts as somebody else's.
    async fn pull_and_note(
        &self,
        image: &ImageRef,
        progress: mpsc::Sender<Option<String>>,
    ) -> Result<Image, EngineError> {
        let before = self.engine.images().await;
        let pulled = self.engine.pull(image, progress).await?;
        let is_new = |stored: Vec<Stored>| stored.iter().all(|stored| stored.id != pulled.id);
        let brought = match before.is_ok_and(is_new) {
            true => Brought::New,
            false => Brought::Nothing,
        };
        (self.note)(Change::ImagePulled {
            id: pulled.id.clone(),
            told: pulled.told(),
            reference: image.0.clone(),
            brought,
        });
        Ok(pulled)
    }

    async fn pull_once(
        &self,
        image: &ImageRef,
        place: Place,
        lines: &broadcast::Sender<String>,
    ) -> Result<Image, EngineError> {
        let (progress, mut steps) = mpsc::channel(16);
        let pull = self.pull_and_note(image, progress);
        tokio::pin!(pull);
        let end = Instant::now() + PULL_TOTAL;
        let mut quiet = Instant::now() + PULL_INACTIVITY;
        let place_end = Instant::now() + PLACE_TIME;
        let mut place = Some(place);
        loop {
            // The time of the last progress is `quiet - PULL_INACTIVITY`.
            let silence_end = quiet - PULL_INACTIVITY + PLACE_SILENCE;
            tokio::select! {
                // Lines first: those that came before the end are passed on.
                biased;
                step = steps.recv() => {
                    quiet = Instant::now() + PULL_INACTIVITY;
                    match step {
                        Some(Some(line)) => drop(lines.send(line)),
                        Some(None) => {}
                        // No more progress comes, only the result.
                        None => {
                            return timeout_at(end.min(quiet), pull)
                                .await
                                .unwrap_or(Err(EngineError::Deadline("the pull stood still")));
                        }
                    }
                }
                result = &mut pull => return result,
                () = is_over(place.as_ref(), place_end.min(silence_end)), if place.is_some() => {
                    place = None;
                }
                () = tokio::time::sleep_until(quiet.min(end)) => {
                    return Err(EngineError::Deadline("the pull stood still"));
                }
            }
        }
    }
}

/// Waits until the place must be left to another pull.
async fn is_over(place: Option<&Place>, end: Instant) {
    let Some(place) = place else { return };
    tokio::select! {
        biased;
        () = place.called_back() => {}
        () = tokio::time::sleep_until(end) => {}
    }
}

#[cfg(test)]
mod tests;
