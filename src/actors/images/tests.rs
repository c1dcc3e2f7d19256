//! Pulls by several users, from registries that answer and from some that do not, on a paused clock.

use std::time::SystemTime;

use async_trait::async_trait;
use tokio::task::JoinHandle;

use super::*;
use crate::{
    domain::{
        id::{ContainerId, WorkerId},
        usage::Usage,
    },
    ports::{
        engine::{
            ContainerFacts, ContainerPlan, EngineInfo, Events, Force, Frames, Listed,
            RememberedEnd, Signal, TarStream, Trial, TrialResult,
        },
        engine_log::EngineLog,
    },
};

/// Has no images. What it pulls from `slow/` shows a sign of life every 5 s and never comes; the rest comes at once.
struct Registries;

type Answer<T> = Result<T, EngineError>;

fn away<T>() -> Answer<T> {
    Err(EngineError::Away("only images are here".into()))
}

#[async_trait]
impl ContainerEngine for Registries {
    fn address(&self) -> String {
        "nowhere".into()
    }

    fn parse_image(&self, name: &str) -> Result<ImageRef, String> {
        Ok(ImageRef(name.into()))
    }

    async fn find_image(&self, _: &ImageRef) -> Answer<Option<Image>> {
        Ok(None)
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
    let patience = Patience(Duration::from_secs(600));
    ImagesActor::new(
        Arc::new(Registries),
        Arc::default(),
        PullPolicy::Missing,
        patience,
    )
}

/// A task's pull, driven by nobody but itself.
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
