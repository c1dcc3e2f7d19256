//! The labels of our containers, by which a worker that lost its journal finds its tasks again. Their names and forms are durable:
//! a change needs a new [`FORMAT`], and containers of the old one are still read.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::maker::{Maker, Seen, proof};
use crate::{
    domain::{
        id::{Attempt, ContainerId, ContainerName, PayloadDigest, ResultId, WorkerId},
        record::{Phase, TaskRecord},
        task_settings::Terms,
    },
    ports::engine::{ContainerPlan, Ours, Proof, SpecCodec},
};

/// The version of the labels' names and forms.
const FORMAT: &str = "1";

const FORMAT_LABEL: &str = "worker-node.format";
const WORKER_LABEL: &str = "worker-node.worker";
const TASK_LABEL: &str = "worker-node.task";
const ATTEMPT_LABEL: &str = "worker-node.attempt";
const DIGEST_LABEL: &str = "worker-node.digest";
const CREATED_LABEL: &str = "worker-node.created";
const SPEC_LABEL: &str = "worker-node.spec";
const PROFILE_LABEL: &str = "worker-node.profile";
const TERMS_LABEL: &str = "worker-node.terms";
const MARK_LABEL: &str = "worker-node.mark";

/// The labels of an existing container.
pub(super) type Labels = HashMap<String, String>;

/// The labels of a container made from that plan.
pub(super) fn of_plan(
    plan: &ContainerPlan,
    codec: &dyn SpecCodec,
    maker: Option<&Maker>,
) -> Labels {
    let label = |name: &str, value: String| (name.to_owned(), value);
    let mark = maker.map(|maker| label(MARK_LABEL, maker.mark(&ours_of(plan))));
    let labels = [
        label(FORMAT_LABEL, FORMAT.to_owned()),
        label(WORKER_LABEL, plan.worker.as_str().to_owned()),
        label(TASK_LABEL, plan.spec.id.as_str().to_owned()),
        label(ATTEMPT_LABEL, plan.attempt.to_string()),
        label(DIGEST_LABEL, plan.digest.to_string()),
        label(CREATED_LABEL, shown_time(plan.created)),
        label(SPEC_LABEL, codec.encode(&plan.spec)),
    ];
    let profile = plan.given.profile.clone();
    let profile = profile.map(|name| label(PROFILE_LABEL, name));
    let terms = written_terms(plan.given.settings.terms());
    let terms = terms.map(|terms| label(TERMS_LABEL, terms));
    let of_profile = profile.into_iter().chain(terms);
    labels.into_iter().chain(of_profile).chain(mark).collect()
}

/// The terms as a label, in milliseconds: `timeout=7200000 stop_grace=30000`; `None` where neither is set.
fn written_terms(terms: Terms) -> Option<String> {
    let all = [("timeout", terms.timeout), ("stop_grace", terms.stop_grace)];
    let said = all.into_iter();
    let said: Vec<_> = said
        .filter_map(|(name, time)| Some(format!("{name}={}", time?.as_millis())))
        .collect();
    (!said.is_empty()).then(|| said.join(" "))
}

/// The terms in a container's labels: how long it may run, and how long it may take to stop. A damaged one is `None`.
pub(super) fn terms(labels: &Labels) -> Terms {
    let text = labels.get(TERMS_LABEL).map_or("", String::as_str);
    let said = |wanted: &str| {
        let mut words = text.split(' ');
        let figure = words.find_map(|word| word.strip_prefix(wanted)?.strip_prefix('='))?;
        figure.parse().ok().map(Duration::from_millis)
    };
    Terms {
        timeout: said("timeout"),
        stop_grace: said("stop_grace"),
    }
}

fn ours_of(plan: &ContainerPlan) -> Ours {
    Ours {
        worker: plan.worker.as_str().to_owned(),
        task: plan.spec.id.as_str().to_owned(),
        attempt: plan.attempt,
        digest: plan.digest.to_string(),
        proof: Proof::Mark,
    }
}

/// The engine's filter for the containers of a worker.
pub(super) fn filter_of(worker: &WorkerId) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{WORKER_LABEL}={worker}")])])
}

/// Whose container this is by its labels, and how far they are to be believed; `None` without labels of ours. `name` is the
/// container's, without the slash; `created` is when the engine made it, in seconds since the Unix epoch. A damaged attempt is read
/// as 0, which no task ever has.
pub(super) fn owner(
    labels: &Labels,
    name: Option<&str>,
    created: Option<i64>,
    maker: Option<&Maker>,
) -> Option<Ours> {
    let text = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let attempt = text(ATTEMPT_LABEL).parse::<Attempt>().unwrap_or_default();
    let mut ours = Ours {
        worker: labels.get(WORKER_LABEL)?.clone(),
        task: text(TASK_LABEL),
        attempt,
        digest: text(DIGEST_LABEL),
        proof: Proof::None,
    };
    let mark = labels.get(MARK_LABEL).map(String::as_str);
    ours.proof = proof(
        &ours,
        Seen {
            name,
            created,
            mark,
        },
        maker,
    );
    Some(ours)
}

/// Whether the container was made from that very plan.
pub(super) fn is_of_plan(ours: &Ours, plan: &ContainerPlan) -> bool {
    let proof = ours.proof;
    *ours
        == Ours {
            proof,
            ..ours_of(plan)
        }
}

/// The record of a task as far as its container tells; `None` where a label is missing, damaged or of another format, or two labels
/// contradict each other.
pub(super) fn record(
    labels: &Labels,
    id: &ContainerId,
    name: &ContainerName,
    codec: &dyn SpecCodec,
) -> Option<TaskRecord> {
    let format_is_known = labels.get(FORMAT_LABEL)? == FORMAT;
    let spec = codec.decode(labels.get(SPEC_LABEL)?)?;
    let is_one_task = spec.id.as_str() == labels.get(TASK_LABEL)?;
    let attempt = labels.get(ATTEMPT_LABEL)?.parse::<Attempt>().ok()?;
    if !format_is_known || !is_one_task || attempt == 0 {
        return None;
    }
    let digest = read_digest(labels.get(DIGEST_LABEL)?)?;
    let created = read_time(labels.get(CREATED_LABEL)?)?;
    let result_id = rebuilt_result_id(name, &digest);
    Some(TaskRecord {
        attempt,
        phase: Phase::Starting,
        // A container is made only after the offer was taken.
        answered: true,
        container: Some(id.clone()),
        ..TaskRecord::accepted(spec, digest, result_id, name.clone(), created)
    })
}

/// A result id that is the same each time the record of one container is rebuilt, so that a repeated report is still known as one.
fn rebuilt_result_id(name: &ContainerName, digest: &PayloadDigest) -> ResultId {
    let hash = Sha256::new()
        .chain_update(&name.0)
        .chain_update(digest.0)
        .finalize();
    let hex = hash[..16].iter().map(|byte| format!("{byte:02x}"));
    ResultId(hex.collect())
}

fn read_digest(hex: &str) -> Option<PayloadDigest> {
    let is_hex = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut digest = [0; 32];
    for (place, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    is_hex.then_some(PayloadDigest(digest))
}

fn shown_time(time: SystemTime) -> String {
    Timestamp::try_from(time).unwrap_or_default().to_string()
}

/// Reads the engine's and our own RFC 3339 times; the engine's zero time, from the year 1, is `None`.
pub(super) fn read_time(text: &str) -> Option<SystemTime> {
    let time = text.parse::<Timestamp>().ok()?;
    (time > Timestamp::UNIX_EPOCH).then(|| time.into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        domain::{
            id::TaskId,
            profile::Given,
            spec::{TaskSpec, Wants},
            task_settings::Variable,
        },
        ports::engine::Image,
    };

    /// Writes nothing but the task's id, which is enough to see whose text comes back.
    pub(in crate::engine) struct IdCodec;

    impl SpecCodec for IdCodec {
        fn encode(&self, spec: &TaskSpec) -> String {
            spec.id.as_str().to_owned()
        }

        fn decode(&self, label: &str) -> Option<TaskSpec> {
            (label != "damaged").then(|| spec(label))
        }
    }

    fn spec(id: &str) -> TaskSpec {
        TaskSpec {
            id: TaskId::new(id).unwrap(),
            image: "busybox".into(),
            command: "true".into(),
            wants: Wants::default(),
            user_id: String::new(),
            task_name: String::new(),
            task_type: String::new(),
            sla_multiplier: 1.0,
            submitted_at: 0,
            asked: None,
        }
    }

    pub(in crate::engine) fn plan() -> ContainerPlan {
        ContainerPlan {
            name: ContainerName("wn-w-1".into()),
            worker: WorkerId::new("w").unwrap(),
            spec: spec("task-1"),
            digest: PayloadDigest([0xab; 32]),
            attempt: 2,
            created: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001),
            image: Image {
                id: "sha256:ab".into(),
                repo_digest: None,
            },
            given: Given::default(),
            output_folder: None,
            enforce_limits: true,
            init: true,
            layer_size: None,
            local_log: true,
        }
    }

    fn rebuilt(labels: &Labels) -> Option<TaskRecord> {
        let plan = plan();
        record(labels, &ContainerId("c0ffee".into()), &plan.name, &IdCodec)
    }

    #[test]
    fn a_record_survives_in_the_labels() {
        let plan = plan();

        let record = rebuilt(&of_plan(&plan, &IdCodec, None)).unwrap();

        assert_eq!(record.spec, plan.spec);
        assert_eq!(record.digest, plan.digest);
        assert_eq!(record.attempt, 2);
        assert_eq!(record.accepted_at, plan.created);
        assert_eq!(record.container_name, plan.name);
        assert_eq!(record.container, Some(ContainerId("c0ffee".into())));
        assert_eq!(record.phase, Phase::Starting);
    }

    #[test]
    fn a_rebuilt_result_id_is_the_same_each_time_and_another_for_another_container() {
        let plan = plan();
        let labels = of_plan(&plan, &IdCodec, None);

        let first = rebuilt(&labels).unwrap().result_id;
        let again = rebuilt(&labels).unwrap().result_id;
        let other = rebuilt_result_id(&ContainerName("wn-w-2".into()), &plan.digest);

        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_eq!(first.0.len(), 32);
    }

    #[test]
    fn damaged_labels_give_no_record_but_still_an_owner() {
        for (name, value) in [
            (FORMAT_LABEL, "2"),
            (TASK_LABEL, "task-2"),
            (ATTEMPT_LABEL, "0"),
            (ATTEMPT_LABEL, "many"),
            (DIGEST_LABEL, "abcd"),
            (DIGEST_LABEL, &"zz".repeat(32)),
            (DIGEST_LABEL, &"é".repeat(32)),
            (CREATED_LABEL, "yesterday"),
            (SPEC_LABEL, "damaged"),
        ] {
            let mut labels = of_plan(&plan(), &IdCodec, None);
            labels.insert(name.into(), value.into());

            assert_eq!(rebuilt(&labels), None, "{name}={value}");
            assert_eq!(owner(&labels, None, None, None).unwrap().worker, "w");

            labels.remove(name);
            assert_eq!(rebuilt(&labels), None, "without {name}");
        }
    }

    #[test]
    fn only_the_very_plan_counts_as_its_own() {
        let plan = plan();
        let ours = owner(&of_plan(&plan, &IdCodec, None), None, None, None).unwrap();
        let mut later = plan.clone();
        later.attempt = 3;

        assert!(is_of_plan(&ours, &plan));
        assert!(!is_of_plan(&ours, &later));
        assert_eq!(owner(&Labels::new(), None, None, None), None);
    }

    #[test]
    fn what_counts_after_the_start_stands_in_the_labels_and_no_variable_does() {
        let mut plan = plan();
        assert!(!of_plan(&plan, &IdCodec, None).contains_key(TERMS_LABEL));
        let settings = &mut plan.given.settings;
        settings.timeout = Some(Duration::from_millis(1_500));
        settings.stop_grace = Some(Duration::ZERO);
        let secret = Variable::Text("hunter2".into());
        settings.environment.insert("TOKEN".into(), secret);
        plan.given.profile = Some("training".into());

        let labels = of_plan(&plan, &IdCodec, None);

        assert_eq!(labels[PROFILE_LABEL], "training");
        assert_eq!(labels[TERMS_LABEL], "timeout=1500 stop_grace=0");
        assert_eq!(terms(&labels), plan.given.settings.terms());
        assert!(labels.values().all(|value| !value.contains("hunter2")));
        let damaged = Labels::from([(TERMS_LABEL.into(), "timeout=x =5".into())]);
        assert_eq!(terms(&damaged), Terms::default());
        assert_eq!(terms(&Labels::new()), Terms::default());
    }

    #[test]
    fn the_engines_zero_time_is_no_time() {
        assert_eq!(read_time("0001-01-01T00:00:00Z"), None);
        assert_eq!(read_time(""), None);
        assert_eq!(
            read_time("2023-11-14T22:13:20.000001Z"),
            Some(plan().created)
        );
        assert_eq!(
            read_time("2023-11-15T00:13:20.000001+02:00"),
            Some(plan().created)
        );
    }
}
