//! Images: present or pulled, one pull per image however many tasks wait for it. A task gets a ticket and waits on that
//! itself; when the last ticket is dropped (all its tasks were cancelled) the pull is let go. Who may pull: `places`.

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

/// Pulls at once: more only share the same line.
const PARALLEL_PULLS: usize = 3;

/// A pull that shows no sign of life for this long has failed; extraction counts as one.
const PULL_INACTIVITY: Duration = Duration::from_secs(120);

/// A pull takes no longer than this in all.
const PULL_TOTAL: Duration = Duration::from_secs(3_600);

/// A pull that has had its place for this long, or that shows no sign of life for `PLACE_SILENCE`, leaves it to the next one
/// and goes on without: three slow registries must not stop the pulls of all others. One whose user holds several leaves it as
/// soon as another user waits.
const PLACE_TIME: Duration = Duration::from_secs(60);
const PLACE_SILENCE: Duration = Duration::from_secs(10);

/// Progress lines that a slow listener may lag behind before it misses some.
const PROGRESS_LINES: usize = 256;

/// Whether to ask the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// When the image is not here, or is not what its registry has by now under a name that moves. Where that cannot be told,
    /// what is here is good enough.
    #[default]
    Auto,
    /// Only when the image is not here.
    Missing,
    /// Every time.
    Always,
    /// Never: an image that is not here is a failure.
    Never,
}

/// How an image was had, or why not: the engine's or the registry's words.
pub type PullResult = Result<Image, String>;

type SharedPull = Shared<BoxFuture<'static, PullResult>>;

/// Asks for an image. Idempotent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "PullTicket")]
pub struct GetImage {
    /// Which.
    pub image: ImageRef,
    /// For whom: places to pull go round by user.
    pub user: String,
}

/// A place at a pull.
#[derive(Debug)]
pub struct PullTicket {
    /// Resolves when the image is here. Whoever waits drives it.
    pub image: SharedPull,
    /// Lines for people.
    pub progress: broadcast::Receiver<String>,
}

struct Pull {
    running: WeakShared<BoxFuture<'static, PullResult>>,
    progress: broadcast::Sender<String>,
    wish: Wish,
}

/// See the module.
pub struct ImagesActor {
    puller: Arc<Puller>,
    pulls: HashMap<ImageRef, Pull>,
}

/// Writes a pull down that is over. Nobody waits for it: an image whose pull is not written down is not ours to remove.
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
    /// Pulls through `engine`, and has each pull noted.
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
            // One that is over answers for the moment it was asked in, not for now.
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

    /// What the registry has by now, else what is here, and a line about it.
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

    /// A turn to pull. Whoever has to wait for one is told.
    async fn place(&self, wish: &Wish, lines: &broadcast::Sender<String>) -> Place {
        let say = || {
            // Nobody listening is fine.
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
            // Held for one try, and not while it is waited for the next.
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

    /// What cannot be told to be new is taken for somebody else's.
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
            let silence_end = quiet - PULL_INACTIVITY + PLACE_SILENCE;
            tokio::select! {
                // Lines first: those that came before the end are told.
                biased;
                step = steps.recv() => {
                    quiet = Instant::now() + PULL_INACTIVITY;
                    match step {
                        Some(Some(line)) => drop(lines.send(line)),
                        Some(None) => {}
                        // No more progress will come; only the result.
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

/// Resolves when a place is to be left to somebody else.
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
