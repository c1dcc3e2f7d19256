//! Pulls for several users, from registries that answer and from some that do not, on a paused clock.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::SystemTime,
};

use async_trait::async_trait;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    domain::{
        id::{ContainerId, WorkerId},
        storage::{Allowance, Written},
        usage::Usage,
    },
    ports::{
        engine::{
            ContainerFacts, ContainerPlan, EngineInfo, Events, Force, Frames, Listed,
            RememberedEnd, Signal, TarStream, Trial, TrialResult,
        },
        engine_log::EngineLog,
        shelf::ImageShelf,
    },
};

/// An engine with the images of `here`, of an old digest. A pull from `slow/` makes progress every 5 s and never ends; other
/// pulls end at once, with a new image.
#[derive(Default)]
struct Registries {
    here: Vec<&'static str>,
    /// The registries' answer about digests.
    latest: Option<Answer<String>>,
    asked: AtomicUsize,
}

type Answer<T> = Result<T, EngineError>;

fn away<T>() -> Answer<T> {
    Err(EngineError::Away("only images are here".into()))
}

#[async_trait]
impl ImageShelf for Registries {
    async fn images(&self) -> Answer<Vec<Stored>> {
        let stored = |name: &&str| Stored {
            id: "old".into(),
            tags: vec![(*name).into()],
            bytes: 1,
        };
        Ok(self.here.iter().map(stored).collect())
    }
    async fn remove_image(&self, _: &str) -> Answer<()> {
        away()
    }
}

#[async_trait]
impl ContainerEngine for Registries {
    fn address(&self) -> String {
        "nowhere".into()
    }

    fn parse_image(&self, name: &str) -> Result<ImageRef, String> {
        Ok(ImageRef(name.into()))
    }

    async fn find_image(&self, image: &ImageRef) -> Answer<Option<Image>> {
        let is_here = self.here.contains(&image.0.as_str());
        Ok(is_here.then(|| Image {
            id: "old".into(),
            repo_digest: Some(format!("{}@sha256:old", image.0)),
        }))
    }

    async fn registry_digest(&self, _: &ImageRef) -> Answer<String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.latest.clone().unwrap()
    }

    async fn pull(
        &self,
        image: &ImageRef,
        progress: mpsc::Sender<Option<String>>,
    ) -> Answer<Image> {
        let mut signs = tokio::time::interval(Duration::from_secs(5));
        while image.0.starts_with("slow/") {
            let _ = progress.send(None).await;
            signs.tick().await;
        }
        Ok(Image {
            id: image.0.clone(),
            repo_digest: None,
        })
    }

    async fn info(&self) -> Answer<EngineInfo> {
        away()
    }
    async fn try_out(&self, _: &Trial) -> Answer<TrialResult> {
        away()
    }
    async fn create(&self, _: &ContainerPlan) -> Answer<ContainerId> {
        away()
    }
    async fn open_log(
        &self,
        _: &ContainerId,
        _: &std::path::Path,
    ) -> Answer<Option<Box<dyn EngineLog>>> {
        away()
    }

    async fn attach(&self, _: &ContainerId) -> Answer<Frames> {
        away()
    }
    async fn logs(&self, _: &ContainerId, _: SystemTime) -> Answer<Frames> {
        away()
    }
    async fn follow(&self, _: &ContainerId, _: SystemTime) -> Answer<Frames> {
        away()
    }
    async fn last_written(&self, _: &ContainerId) -> Answer<Option<SystemTime>> {
        away()
    }
    async fn time(&self) -> Answer<SystemTime> {
        away()
    }
    async fn start(&self, _: &ContainerId) -> Answer<()> {
        away()
    }
    async fn wait(&self, _: &ContainerId) -> Answer<i64> {
        away()
    }
    async fn inspect(&self, _: &str) -> Answer<ContainerFacts> {
        away()
    }
    async fn has_lived_since(&self, _: SystemTime) -> Answer<bool> {
        away()
    }
    async fn was_started(&self, _: &ContainerId) -> Answer<bool> {
        away()
    }
    async fn remembered_end(&self, _: &ContainerId) -> Answer<RememberedEnd> {
        away()
    }
    async fn kill(&self, _: &ContainerId, _: Signal) -> Answer<()> {
        away()
    }
    async fn remove(&self, _: &ContainerId, _: Force) -> Answer<()> {
        away()
    }
    async fn usage(&self, _: &ContainerId) -> Answer<Option<Usage>> {
        away()
    }
    async fn storage(
        &self,
        _: &ContainerId,
        _: Option<&std::path::Path>,
        _: &Allowance,
    ) -> Answer<Written> {
        away()
    }
    async fn download_output(&self, _: &ContainerId) -> Answer<TarStream> {
        away()
    }
    async fn list(&self, _: &WorkerId) -> Answer<Vec<Listed>> {
        away()
    }
    async fn events(&self, _: &WorkerId) -> Answer<Events> {
        away()
    }
}

fn images() -> ImagesActor {
    images_of(&Arc::default(), PullPolicy::Auto)
}

fn images_of(engine: &Arc<Registries>, policy: PullPolicy) -> ImagesActor {
    let engine = Arc::clone(engine);
    let patience = Patience(Duration::from_secs(600));
    ImagesActor::new(engine, Arc::default(), policy, patience, Arc::new(drop))
}

/// A task's pull, driven by this value alone.
struct Puller {
    image: JoinHandle<PullResult>,
    progress: broadcast::Receiver<String>,
}

impl Puller {
    fn begin(images: &mut ImagesActor, image: &str, user: &str) -> Self {
        let PullTicket { image, progress } = images.begin(ImageRef(image.into()), user);
        Self {
            image: tokio::spawn(image),
            progress,
        }
    }

    /// The next line of its log.
    async fn says(&mut self) -> String {
        self.progress.recv().await.expect("a line")
    }

    async fn comes(self) -> PullResult {
        self.image.await.expect("it does not panic")
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_with_a_slow_registry_keeps_no_other_user_waiting() {
    let mut images = images();
    let mut slow = Vec::new();
    for number in 0..5 {
        let mut pull = Puller::begin(&mut images, &format!("slow/{number}"), "mallory");
        slow.push((pull.says().await, pull));
    }
    let waiting = "[worker-node] waiting for a turn to pull";
    let said: Vec<_> = slow.iter().map(|(line, _)| line == waiting).collect();
    assert_eq!(said, [false, false, false, true, true]);
    let begun = Instant::now();

    for number in 0..10 {
        let honest = Puller::begin(&mut images, &format!("honest/{number}"), "ann");
        assert!(honest.comes().await.is_ok());
    }

    assert_eq!(
        begun.elapsed(),
        Duration::ZERO,
        "nobody waits for a slow registry"
    );
    assert!(slow.iter().all(|(_, pull)| !pull.image.is_finished()));
}

#[tokio::test(start_paused = true)]
async fn as_many_users_with_slow_registries_as_there_are_places_delay_another_by_a_minute() {
    let mut images = images();
    let mut slow = Vec::new();
    for user in ["mallory", "mike", "moe"] {
        slow.push(Puller::begin(&mut images, &format!("slow/{user}"), user));
        slow.push(Puller::begin(&mut images, &format!("slow/{user}/2"), user));
    }
    for pull in &mut slow {
        pull.says().await;
    }
    let begun = Instant::now();

    let honest = Puller::begin(&mut images, "honest", "ann");

    assert!(honest.comes().await.is_ok());
    assert!(begun.elapsed() <= PLACE_TIME, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_image_that_somebody_waits_for_is_pulled_in_the_turn_of_who_joins() {
    let mut images = images();
    for number in 0..5 {
        let mut slow = Puller::begin(&mut images, &format!("slow/{number}"), "mallory");
        slow.says().await;
    }
    let begun = Instant::now();
    let mut first = Puller::begin(&mut images, "common", "mallory");
    first.says().await;
    let common = ImageRef("common".into());

    images
        .puller
        .places
        .join(&images.pulls[&common].wish, "ann");

    assert!(first.comes().await.is_ok());
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

const APP: &str = "r.example/app:latest";

/// An engine that has `APP`, and a registry with this answer about it.
fn with_app(latest: Answer<String>) -> Arc<Registries> {
    Arc::new(Registries {
        here: vec![APP, "r.example/app:1", "r.example/other:latest"],
        latest: Some(latest),
        asked: AtomicUsize::new(0),
    })
}

/// The id of the image that the name brings, and the lines of the log.
async fn comes_of(images: &mut ImagesActor, name: &str) -> (String, Vec<String>) {
    let PullTicket {
        image,
        mut progress,
    } = images.begin(ImageRef(name.into()), "ann");
    let id = image.await.expect("an image").id;
    let lines = std::iter::from_fn(|| progress.try_recv().ok()).collect();
    (id, lines)
}

#[tokio::test(start_paused = true)]
async fn a_latest_that_has_moved_is_pulled_and_one_that_has_not_is_used() {
    let same = with_app(Ok("sha256:old".into()));
    let moved = with_app(Ok("sha256:new".into()));

    let unmoved = comes_of(&mut images_of(&same, PullPolicy::Auto), APP).await;
    let newer = comes_of(&mut images_of(&moved, PullPolicy::Auto), APP).await;

    assert_eq!(unmoved, ("old".into(), vec![]));
    assert_eq!(newer.0, APP, "what the registry has now");
    assert_eq!(newer.1, [format!("[worker-node] pulling image {APP}")]);
}

#[tokio::test(start_paused = true)]
async fn other_tags_and_digests_and_other_policies_ask_nobody_for_what_is_here() {
    let engine = with_app(Ok("sha256:new".into()));

    let tagged = comes_of(&mut images_of(&engine, PullPolicy::Auto), "r.example/app:1").await;
    let missing = comes_of(&mut images_of(&engine, PullPolicy::Missing), APP).await;
    let never = comes_of(&mut images_of(&engine, PullPolicy::Never), APP).await;

    for outcome in [tagged, missing, never] {
        assert_eq!(outcome, ("old".into(), vec![]));
    }
    assert_eq!(engine.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_cannot_be_asked_is_left_alone_for_a_minute_by_those_who_have_an_image() {
    let engine = with_app(Err(EngineError::Deadline("distribution inspect")));
    let mut images = images_of(&engine, PullPolicy::Auto);
    let line = |name| {
        vec![format!(
            "[worker-node] {name} is used as it is here; a newer one could not be had: r.example did not answer in time"
        )]
    };

    for name in [APP, APP, "r.example/other:latest"] {
        let outcome = comes_of(&mut images, name).await;
        assert_eq!(outcome, ("old".into(), line(name)));
    }
    assert_eq!(engine.asked.load(Ordering::Relaxed), 1);

    tokio::time::advance(Duration::from_secs(60)).await;
    comes_of(&mut images, APP).await;
    assert_eq!(engine.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_the_registry_does_not_have_says_nothing_about_its_others() {
    let engine = with_app(Err(EngineError::NotFound("manifest unknown".into())));
    let mut images = images_of(&engine, PullPolicy::Auto);

    let (id, lines) = comes_of(&mut images, APP).await;
    comes_of(&mut images, "r.example/other:latest").await;

    assert_eq!(id, "old");
    assert!(
        lines[0].ends_with("could not be had: manifest unknown"),
        "{lines:?}"
    );
    assert_eq!(engine.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn every_pull_is_told_with_whether_it_brought_an_image_that_was_not_there() {
    let engine = with_app(Ok("sha256:new".into()));
    let (told, mut pulls) = mpsc::unbounded_channel();
    let note: NotePull = Arc::new(move |pull| drop(told.send(pull)));
    let patience = Patience(Duration::ZERO);
    let mut images = ImagesActor::new(engine, Arc::default(), PullPolicy::Always, patience, note);
    let pull = |id: &str, reference: &str, brought| Change::ImagePulled {
        id: id.into(),
        told: id.into(),
        reference: reference.into(),
        brought,
    };

    comes_of(&mut images, "r.example/new").await;
    comes_of(&mut images, "old").await;

    assert_eq!(
        pulls.try_recv(),
        Ok(pull("r.example/new", "r.example/new", Brought::New))
    );
    assert_eq!(pulls.try_recv(), Ok(pull("old", "old", Brought::Nothing)));
}
