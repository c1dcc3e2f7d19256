//! Images whose name moves, from a registry to the actor that hands them out.

use std::{sync::Arc, time::Duration};

use actix::{Actor, Addr};
use bollard::query_parameters::TagImageOptions;
use worker_node::{
    actors::images::{GetImage, ImagesActor, PullPolicy, PullTicket},
    domain::patience::Patience,
    ports::engine::{ContainerEngine, Image},
};

use crate::{
    bench::{Bench, address, engine_at, in_time},
    registry::{Guard, Registry},
};

/// The image that a task gets, and the lines of its log.
async fn had(images: &Addr<ImagesActor>, bench: &Bench, name: &str) -> (Image, Vec<String>) {
    let wanted = GetImage {
        image: bench.engine.parse_image(name).unwrap(),
        user: "ann".into(),
    };
    let PullTicket {
        image,
        mut progress,
    } = images.send(wanted).await.unwrap();
    let image = in_time(image).await.unwrap();
    let lines = std::iter::from_fn(|| progress.try_recv().ok()).collect();
    (image, lines)
}

#[actix::test]
async fn a_latest_is_pulled_where_its_tag_has_moved_and_used_where_its_registry_is_away() {
    let bench = Bench::new();
    let registry = Registry::start(Guard::Open);
    let images = ImagesActor::new(
        Arc::new(engine_at(&address())),
        Arc::default(),
        PullPolicy::Auto,
        Patience(Duration::ZERO),
        Arc::new(drop),
    )
    .start();
    let name = registry.offer_as(&bench, ("app", "latest"), b"1").await;
    let (first, _) = had(&images, &bench, &name).await;

    let same = had(&images, &bench, &name).await;
    assert_eq!(same, (first.clone(), vec![]));

    registry.offer_as(&bench, ("app", "latest"), b"2").await;
    let back = TagImageOptions {
        repo: Some(name.trim_end_matches(":latest").into()),
        tag: Some("latest".into()),
    };
    bench.docker.tag_image(&first.id, Some(back)).await.unwrap();
    bench.remove_later(&first.id);
    let (second, _) = had(&images, &bench, &name).await;
    assert_ne!(second.id, first.id);

    registry.stop();
    let (kept, lines) = had(&images, &bench, &name).await;
    assert_eq!(kept, second);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("is used as it is here") && lines[0].contains("refused"),
        "{lines:?}"
    );
}
