//! Images that a worker pulls and lets go of again, beside those of others.

use bollard::models::ContainerConfig;
use serde_json::Value;
use worker_node::proto::Task;

use crate::admin::asked;
use crate::harness::{Cluster, Registry, TestImage, remove_image, unique};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn what_the_worker_has_pulled_goes_when_it_is_old_and_what_was_there_before_stays() {
    // Rounds are no further apart than the grace.
    let few_rounds = ["--image-max-age", "1ms", "--orphan-grace", "1s"];
    let cluster = Cluster::start_with(|setup| setup.arguments(few_rounds)).await;
    let docker = cluster.engine.docker().clone();
    let registry = Registry::start().await;
    let config = ContainerConfig {
        env: Some(vec![format!("MARK={}", unique("mark"))]),
        ..ContainerConfig::default()
    };
    let built = TestImage::from_busybox(&docker, config).await;
    let ours = registry.reference(&registry.push(&docker, &built.name).await);
    remove_image(&docker, &built.name).await;
    let of_busybox = registry.reference(&registry.push_busybox(&docker).await);

    let pulled = asked(&cluster, &["pull", &of_busybox]).await;
    assert!(pulled.status.success(), "{}", text(&pulled.stderr));
    assert!(text(&pulled.stderr).contains("pulling image"));
    assert!(text(&pulled.stdout).starts_with(of_busybox.trim_end_matches(":1")));
    let task = Task {
        docker_image: ours.clone(),
        ..cluster.task("echo $MARK")
    };
    let task = cluster.submit(task).await;
    let report = cluster.report(&task).await;
    assert_eq!(report.status, "success", "{}", report.logs);
    let removed = cluster.worker.wait_log_line("is removed").await;

    assert!(removed.contains(ours.trim_end_matches(":1")), "{removed}");
    assert!(docker.inspect_image(&ours).await.is_err(), "it is there");
    let images = asked(&cluster, &["images", "--json"]).await;
    let images: Value = serde_json::from_slice(&images.stdout).expect("one object");
    let images = images["images"].as_array().expect("images");
    let named = |image: &&Value| {
        let mut names = image["names"].as_array().into_iter().flatten();
        names.any(|name| name == &Value::from(of_busybox.as_str()))
    };
    let foreign = images.iter().find(named).expect("it stays");
    assert_eq!(foreign["ours"], false, "busybox was there before");
    let missing = asked(&cluster, &["pull", &registry.reference("nobody-has-it")]).await;
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("cannot be had: "));
    cluster.finish().await;
    remove_image(&docker, &of_busybox).await;
}
