//! Conversions, above all the digest: a task that was accepted before an upgrade must be known after it.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::{
    id::{ResultId, WorkerId},
    outcome::StatusWord,
    usage::Usage,
};

fn offered() -> proto::Task {
    proto::Task {
        task_id: "task-1".into(),
        docker_image: "busybox".into(),
        command: "true".into(),
        req_cpu: 0.5,
        req_memory: 1.0,
        req_storage: 2.0,
        req_gpu: 1.0,
        target_worker_id: "w-1".into(),
        user_id: "u".into(),
        sla_multiplier: 1.5,
        task_type: "batch".into(),
        task_name: "a/b".into(),
        submitted_at: 1_700_000_000,
        settings: None,
    }
}

fn offered_with_settings() -> proto::Task {
    proto::Task {
        settings: Some(settings::tests::asked()),
        ..offered()
    }
}

fn spec_of(task: proto::Task) -> TaskSpec {
    spec(task).unwrap().0
}

fn changed(change: impl FnOnce(&mut proto::Task)) -> PayloadDigest {
    let mut task = offered();
    change(&mut task);
    digest(&task)
}

// The expected digest was computed without this program, from the definition of the encoding.
#[test]
fn the_digest_of_a_task_is_the_same_in_every_version_of_this_program() {
    assert_eq!(
        digest(&offered()).to_string(),
        "5d82c422f8ac086e06e836405c0082d19a39bc01ff9351d4cc3d1379eaa20d20"
    );
    assert_eq!(
        digest(&offered_with_settings()).to_string(),
        "222a4898e348be28ec7d804fe588397290ec4455bcee7b3e9dded1ae56a67ef3"
    );
}

#[test]
fn an_offer_repeated_for_another_worker_or_plan_is_the_same_task() {
    let same = digest(&offered());

    assert_eq!(changed(|task| task.target_worker_id = "w-2".into()), same);
    assert_eq!(changed(|task| task.sla_multiplier = 9.0), same);
}

fn other_value() -> proto::TaskSettings {
    let mut settings = settings::tests::asked();
    settings.environment.insert("TOKEN".into(), "z".into());
    settings
}

#[test]
fn every_other_field_makes_it_another_task() {
    let digests = [
        digest(&offered()),
        changed(|task| task.task_id = "task-2".into()),
        changed(|task| task.docker_image = "alpine".into()),
        changed(|task| task.command = "false".into()),
        changed(|task| task.req_cpu = 0.25),
        changed(|task| task.req_memory = 0.25),
        changed(|task| task.req_storage = 0.25),
        changed(|task| task.req_gpu = 0.25),
        changed(|task| task.user_id = "v".into()),
        changed(|task| task.task_type = "other".into()),
        changed(|task| task.task_name = "c".into()),
        changed(|task| task.submitted_at = 1),
        digest(&offered_with_settings()),
        changed(|task| task.settings = Some(other_value())),
    ];

    let distinct: std::collections::HashSet<_> = digests.iter().collect();
    assert_eq!(distinct.len(), digests.len());
}

#[test]
fn bytes_that_move_from_one_field_to_the_next_make_another_task() {
    let left = changed(|task| (task.user_id, task.task_type) = ("ab".into(), "c".into()));
    let right = changed(|task| (task.user_id, task.task_type) = ("a".into(), "bc".into()));

    assert_ne!(left, right);
}

#[test]
fn a_label_carries_the_whole_task() {
    let offer = offer(offered()).unwrap();

    let read = TaskMessageCodec.decode(&TaskMessageCodec.encode(&offer.spec));

    assert_eq!(read.as_ref(), Some(&offer.spec));
    assert_eq!(digest_of(&read.unwrap()), offer.digest);
}

#[test]
fn a_label_carries_all_that_a_task_asks_for_but_what_variables_are_set_to() {
    let mut task = offered_with_settings();
    let settings = task.settings.as_mut().unwrap();
    settings
        .environment
        .insert("TOKEN".into(), "hunter2".into());
    let spec = offer(task).unwrap().spec;

    let label = TaskMessageCodec.encode(&spec);

    let bytes = BASE64.decode(&label).unwrap();
    assert!(!bytes.windows(7).any(|part| part == b"hunter2"));
    let mut expected = spec;
    let asked = expected.asked.as_mut().unwrap();
    let values = asked.environment.values_mut();
    values.for_each(|value| *value = Variable::Lost);
    let read = TaskMessageCodec.decode(&label).unwrap();
    assert_eq!(read, expected);
    assert_eq!(TaskMessageCodec.encode(&read), label);
}

#[test]
fn what_is_no_value_is_told_and_nothing_of_the_settings_is_kept() {
    let mut task = offered_with_settings();
    task.settings.as_mut().unwrap().user = "a b".into();

    let offer = offer(task).unwrap();

    assert_eq!(offer.spec.asked, None);
    let why = offer.excess.unwrap().to_string();
    assert_eq!(
        why,
        "settings.user 'a b' is no user; give a name or a number, and a group behind a colon"
    );
}

#[test]
fn a_label_that_would_be_too_long_goes_without_the_command() {
    let mut task = offered();
    task.command = "x".repeat(LABEL_LIMIT * 3 / 4);
    let spec = spec_of(task);

    let label = TaskMessageCodec.encode(&spec);

    assert!(label.len() <= LABEL_LIMIT);
    let read = TaskMessageCodec.decode(&label).unwrap();
    assert_eq!(
        read,
        TaskSpec {
            command: String::new(),
            ..spec
        }
    );
}

#[test]
fn no_field_makes_a_label_too_long() {
    let mut task = offered();
    for field in [
        &mut task.docker_image,
        &mut task.user_id,
        &mut task.task_type,
        &mut task.task_name,
    ] {
        *field = "\u{e9}".repeat(LABEL_LIMIT);
    }
    // As many settings as are taken, with values that are written back longer than they were sent.
    let entries = |entry: fn(usize) -> String| (0..64).map(entry).collect();
    let value = "x".repeat(limits::VALUES / limits::VARIABLES);
    let variables =
        (0..limits::VARIABLES).map(|at| (format!("{}{at}", "V".repeat(90)), value.clone()));
    task.settings = Some(proto::TaskSettings {
        environment: variables.collect(),
        ports: entries(|at| format!("{at}:1")),
        cap_drop: entries(|at| format!("CAP{at}")),
        ulimits: vec!["nofile=1".into()],
        ..proto::TaskSettings::default()
    });
    assert!(spec_of(task.clone()).asked.is_some());

    let label = TaskMessageCodec.encode(&spec_of(task));

    assert!(label.len() <= LABEL_LIMIT);
    assert!(TaskMessageCodec.decode(&label).is_some());
}

/// The length of a task's texts together without its command, in bytes.
fn kept(spec: &TaskSpec) -> usize {
    let texts = [&spec.image, &spec.user_id, &spec.task_name, &spec.task_type];
    spec.id.as_str().len() + texts.map(String::len).iter().sum::<usize>()
}

#[test]
fn no_text_of_an_offer_makes_a_record_large() {
    // Every field is named, so that a field that is added has to be given a limit here too.
    fn texts(task: &mut proto::Task) -> [&mut String; 7] {
        let proto::Task {
            task_id,
            docker_image,
            command,
            req_cpu: _,
            req_memory: _,
            req_storage: _,
            req_gpu: _,
            target_worker_id,
            user_id,
            sla_multiplier: _,
            task_type,
            task_name,
            submitted_at: _,
            // The texts of settings have a test of their own, and a limit for all of them together.
            settings: _,
        } = task;
        [
            task_id,
            docker_image,
            command,
            target_worker_id,
            user_id,
            task_type,
            task_name,
        ]
    }
    for field in 0..7 {
        for character in ["x", "\u{1}", "\u{1f980}"] {
            let mut task = offered();
            *texts(&mut task)[field] = character.repeat(900_000 / character.len());

            let Ok(offer) = offer(task) else {
                assert_eq!(field, 0, "an id alone is refused for its length");
                continue;
            };

            assert!(kept(&offer.spec) <= 5 * 1_024, "field {field}");
            assert!(offer.spec.command.len() <= 1_024, "field {field}");
            // Field 3 says which worker the master chose, and is not kept.
            let is_kept = field != 3;
            assert_eq!(offer.excess.is_some(), is_kept, "field {field}");
        }
    }
}

#[test]
fn no_words_of_a_master_are_kept_whole() {
    let words = "\u{1b}[2J no \n".repeat(100_000);

    // Every answer with a text of the master ends in these two: RegisterAck, Ack, FileUploadAck, and gRPC's status.
    let refused = super::super::status::refusal(&words).to_string();
    let status = tonic::Status::unknown(words);
    let error = super::super::status::master_error(&status, Duration::ZERO).to_string();

    for told in [refused, error] {
        assert!(told.len() <= 1_200 && !told.contains('\u{1b}'), "{told}");
    }
}

#[test]
fn a_damaged_label_is_no_task() {
    let label = TaskMessageCodec.encode(&spec_of(offered()));

    for damaged in ["", "not base64!", "AAAA", &label[..label.len() - 8]] {
        assert_eq!(TaskMessageCodec.decode(damaged), None, "{damaged}");
    }
}

#[test]
fn a_report_is_under_the_limit_whatever_it_holds() {
    let report = Report {
        task: TaskId::new("x".repeat(1_024)).unwrap(),
        worker: WorkerId::new("w").unwrap(),
        result_id: ResultId("r".into()),
        status: StatusWord::Failed,
        logs: "\u{1f980}".repeat(2 * 1_024 * 1_024),
        output_files: vec!["y".repeat(4_096); 1_000],
        usage: Some(Usage::default()),
        image: Some("z".repeat(300)),
        timeout: Duration::ZERO,
    };

    let result = task_result(report);

    assert!(result.encoded_len() <= SEND_LIMIT);
    assert!(result.output_files.len() > 20);
    assert!(result.logs.len() > 3 * 1_024 * 1_024);
}

#[test]
fn a_time_that_no_calendar_knows_is_still_a_time() {
    assert_eq!(rfc3339(i64::MAX), "1970-01-01T00:00:00Z");
    assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999Z");
}

proptest! {
    #[test]
    fn whatever_a_task_holds_its_label_gives_back(
        id in ".{1,40}",
        command in any::<String>(),
        cpu in any::<f64>().prop_filter("equal to itself", |cpu| !cpu.is_nan()),
        submitted_at in any::<i64>(),
    ) {
        let mut task = offered();
        (task.task_id, task.command) = (id, command);
        (task.req_cpu, task.submitted_at) = (cpu, submitted_at);
        let spec = spec_of(task);

        prop_assert_eq!(TaskMessageCodec.decode(&TaskMessageCodec.encode(&spec)), Some(spec));
    }
}
