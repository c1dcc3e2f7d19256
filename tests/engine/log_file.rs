//! The engine's own files of a container's output, beside the stream of the same bytes.

use worker_node::{
    domain::{id::ContainerId, log_line::Source},
    ports::{
        engine::ContainerEngine as _,
        engine_log::{EngineLog, Step},
    },
};

use crate::bench::{Bench, Output};

/// Bytes that are no text, a line that is longer than the engine's buffer, many lines, a last one without its end.
const MANY_BYTES: &str = "head -c 3000000 /dev/urandom; head -c 70000 /dev/zero | tr '\\0' x; echo; seq 20000; \
                          printf 'no end' >&2; printf 'no end'";

async fn log_of(bench: &Bench, container: &ContainerId) -> Option<Box<dyn EngineLog>> {
    let root = bench.engine.info().await.unwrap().data_root;
    let root = root.expect("these tests run beside their engine");
    bench.engine.open_log(container, &root).await.unwrap()
}

/// All that it has.
fn read(log: &mut dyn EngineLog) -> Output {
    let mut output = Output::default();
    loop {
        match log.next().unwrap() {
            Step::Frames(frames) => {
                for frame in frames {
                    let its = match frame.source {
                        Source::Stderr => &mut output.stderr,
                        _ => &mut output.stdout,
                    };
                    its.extend(&frame.bytes);
                }
            }
            Step::End => return output,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_a_container_printed_is_in_its_log_file_byte_for_byte() {
    let bench = Bench::new();
    let plan = bench.plan(MANY_BYTES).await;

    let (id, _, streamed) = bench.run(&plan).await;
    let mut log = log_of(&bench, &id).await.expect("it can be read");
    let filed = read(&mut *log);

    assert!(streamed.stdout.len() > 3_100_000);
    assert!(
        filed == streamed,
        "{} and {}",
        filed.stdout.len(),
        streamed.stdout.len()
    );
    assert!(log.begins_at_the_first_byte().unwrap());
    assert_eq!(log.rest().unwrap(), 0);
    assert!(log.run().is_some(), "the engine's process is known");
}

#[tokio::test]
async fn files_of_another_driver_are_left_alone() {
    let bench = Bench::new();
    let mut plan = bench.plan("echo printed").await;
    plan.local_log = false;

    let (id, _, streamed) = bench.run(&plan).await;

    assert_eq!(streamed.stdout, b"printed\n");
    assert!(log_of(&bench, &id).await.is_none());
}
