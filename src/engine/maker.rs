//! How a container is known as made from one state folder. Its labels alone prove nothing: `docker commit` hands them on to every
//! container of the image. What can't be handed on with them is the name; what nobody else can make is the mark.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::ports::engine::{Ours, Proof, container_name};

/// Makes the marks of one state folder, and knows them again.
#[derive(Clone)]
pub struct Maker {
    secret: [u8; 32],
    since: u64,
}

impl fmt::Debug for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maker").field("since", &self.since).finish()
    }
}

impl Maker {
    /// A maker that signs with `secret`, which its state folder alone knows `since` that time, in seconds since the Unix epoch:
    /// older containers have no mark.
    #[must_use]
    pub fn new(secret: [u8; 32], since: u64) -> Self {
        Self { secret, since }
    }

    /// The mark of a container of that task, in hex.
    #[must_use]
    pub fn mark(&self, ours: &Ours) -> String {
        let mark = self.signed(ours).finalize().into_bytes();
        mark.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn signed(&self, ours: &Ours) -> Hmac<Sha256> {
        // By the standard, a shorter key is filled up with zeros.
        let mut key = [0; 64];
        key[..self.secret.len()].copy_from_slice(&self.secret);
        let mut mac = Hmac::<Sha256>::new(&key.into());
        let attempt = ours.attempt.to_string();
        for part in [&ours.worker, &ours.task, &attempt, &ours.digest] {
            // The length of each part goes first, so that no two lists of parts are the same bytes.
            mac.update(&part.len().to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac
    }

    fn has_made(&self, ours: &Ours, mark: &str) -> bool {
        let bytes = (0..mark.len()).step_by(2).map(|place| {
            let two = mark.get(place..place + 2)?;
            u8::from_str_radix(two, 16).ok()
        });
        let bytes: Option<Vec<u8>> = bytes.collect();
        bytes.is_some_and(|bytes| self.signed(ours).verify_slice(&bytes).is_ok())
    }
}

/// What the engine tells of a container, for its labels to be judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    /// Its name, without the slash.
    pub(super) name: Option<&'a str>,
    /// When the engine made it, in seconds since the Unix epoch.
    pub(super) created: Option<i64>,
    /// The mark that it carries.
    pub(super) mark: Option<&'a str>,
}

/// How far labels are to be believed. Without a maker there is nothing but the name to go by.
pub(super) fn proof(ours: &Ours, seen: Seen<'_>, maker: Option<&Maker>) -> Proof {
    let name = container_name(&ours.worker, &ours.task, ours.attempt);
    let is_named = seen.name == Some(name.0.as_str());
    let Some(maker) = maker else {
        return if is_named { Proof::Age } else { Proof::None };
    };
    let is_marked = seen.mark.is_some_and(|mark| maker.has_made(ours, mark));
    match (is_named, is_marked) {
        (true, true) => return Proof::Mark,
        (false, true) => return Proof::Copy,
        (false, false) => return Proof::None,
        (true, false) => {}
    }
    let created = seen.created.and_then(|at| u64::try_from(at).ok());
    match created.is_some_and(|at| at <= maker.since) {
        true => Proof::Age,
        false => Proof::Name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Ours {
        Ours {
            worker: "w".into(),
            task: "task-1".into(),
            attempt: 1,
            digest: "ab".repeat(32),
            proof: Proof::None,
        }
    }

    #[test]
    fn only_the_name_and_the_mark_together_prove_a_container_ours() {
        let (ours, maker) = (ours(), Maker::new([7; 32], 1_000));
        let (mark, name) = (maker.mark(&ours), container_name("w", "task-1", 1));
        let judged = |name: &str, created: i64, mark: Option<&str>| {
            let (name, created) = (Some(name), Some(created));
            proof(
                &ours,
                Seen {
                    name,
                    created,
                    mark,
                },
                Some(&maker),
            )
        };

        assert_eq!(judged(&name.0, 2_000, Some(&mark)), Proof::Mark);
        // What `docker commit` makes: all labels, and another name.
        for other in [
            "amazed_turing",
            "sec-debug",
            &container_name("w", "task-1", 2).0,
        ] {
            assert_eq!(judged(other, 2_000, Some(&mark)), Proof::Copy, "{other}");
            assert_eq!(judged(other, 10, Some(&mark)), Proof::Copy, "{other}");
            assert_eq!(judged(other, 10, None), Proof::None, "{other}");
        }
        let foreign = Maker::new([8; 32], 1_000).mark(&ours);
        for forged in [
            None,
            Some(""),
            Some("zz"),
            Some("é"),
            Some(&mark[2..]),
            Some(&foreign),
        ] {
            assert_eq!(judged(&name.0, 2_000, forged), Proof::Name, "{forged:?}");
            assert_eq!(judged(&name.0, 1_000, forged), Proof::Age, "{forged:?}");
        }
    }

    #[test]
    fn a_mark_is_of_one_task_one_attempt_and_one_offer() {
        let maker = Maker::new([7; 32], 0);
        let mark = maker.mark(&ours());
        let others = [
            Ours {
                worker: "wt".into(),
                task: "ask-1".into(),
                ..ours()
            },
            Ours {
                task: "task-2".into(),
                ..ours()
            },
            Ours {
                attempt: 2,
                ..ours()
            },
            Ours {
                digest: "cd".repeat(32),
                ..ours()
            },
        ];

        assert!(maker.has_made(&ours(), &mark));
        for other in others {
            assert!(!maker.has_made(&other, &mark), "{other:?}");
        }
        assert!(!format!("{maker:?}").contains('7'));
    }
}
