//! Views of images, and pulls, over an engine with the images that a test gives it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::sync::broadcast;

use super::*;
use crate::{
    domain::shelf::Pulled,
    ports::engine::{EngineError, Image},
    supervision::slot,
};

/// An engine without images.
struct Empty;

#[async_trait]
impl ImageShelf for Empty {
    async fn images(&self) -> Result<Vec<Stored>, EngineError> {
        Ok(Vec::new())
    }

    async fn remove_image(&self, _: &str) -> Result<(), EngineError> {
        Ok(())
    }
}

fn parse() -> ParseImage {
    Arc::new(|name| match name {
        "" => Err("it is empty".into()),
        name => Ok(ImageRef(format!("docker.io/{name}:latest"))),
    })
}

/// A desk without an actor behind it.
pub(in crate::handle::admin) fn nobody() -> ImageDesk {
    ImageDesk {
        shelf: Arc::new(Empty),
        parse: parse(),
        actor: slot("images").0,
        records: Records(slot("journal").0),
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn stored(id: &str, tag: &str) -> Stored {
    Stored {
        id: id.into(),
        tags: vec![tag.into()],
        bytes: 7,
    }
}

#[test]
fn images_are_told_with_their_tasks_and_those_of_the_worker_come_first() {
    let pulled = |id: &str, used| Pulled {
        id: id.into(),
        told: format!("r/{id}@sha256:1"),
        references: vec![],
        pulled_at: at(1),
        used_at: at(used),
    };
    let household = Household {
        images: vec![pulled("a", 5), pulled("b", 9)],
        images_wanted: vec![
            ("a".into(), Some("r/a@sha256:1".into())),
            ("a".into(), Some("r/a@sha256:1".into())),
            ("c".into(), None),
            ("".into(), None),
        ],
        ..Household::default()
    };
    let there = vec![
        stored("a", "r/a:1"),
        stored("c", "docker.io/c:latest"),
        stored("b", "r/b:1"),
    ];

    let views = views(there, &household, &parse());

    let told: Vec<_> = views
        .iter()
        .map(|view| (view.told.as_str(), view.tasks, view.ours))
        .collect();
    assert_eq!(
        told,
        [
            ("r/b@sha256:1", 0, Some((at(1), at(9)))),
            ("r/a@sha256:1", 2, Some((at(1), at(5)))),
            ("c", 1, None),
        ]
    );
}

#[tokio::test]
async fn a_pull_is_told_line_by_line_to_its_end() {
    let of = |end: Result<Image, String>| {
        let (sender, progress) = broadcast::channel(8);
        sender.send("1: Pulling".into()).unwrap();
        sender.send("2: Pull complete".into()).unwrap();
        let image = async move {
            drop(sender);
            end
        };
        steps(PullTicket {
            image: image.boxed().shared(),
            progress,
        })
    };
    let image = Image {
        id: "id".into(),
        repo_digest: None,
    };

    for (end, step) in [
        (Ok(image), PullStep::Here("id".into())),
        (Err("no such".into()), PullStep::Failed("no such".into())),
    ] {
        let told: Vec<_> = of(end).map(Result::unwrap).collect().await;

        let lines = ["1: Pulling", "2: Pull complete"];
        let mut all: Vec<_> = lines.map(|line| PullStep::Line(line.into())).into();
        all.push(step);
        assert_eq!(told, all);
    }
}

#[tokio::test]
async fn what_is_no_name_of_an_image_is_told_without_asking_anybody() {
    let me = Caller::default();

    let steps = nobody().pull(&me, "", Instant::now()).await.unwrap();

    let told: Vec<_> = steps.collect().await;
    assert_eq!(told, [Ok(PullStep::Failed("it is empty".into()))]);
}
