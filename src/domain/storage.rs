//! The disk space that a task may take: its allowance, whether it has written more than that, and when to measure again. Pure.

use std::{fmt, time::Duration};

use super::{
    admission::Amounts,
    spec::{GIB, Wants},
};

/// Bytes asked for that bring one inode with them: mke2fs makes as many on a disk (`inode_ratio` in `mke2fs.conf`).
const BYTES_OF_INODE: u64 = 16 << 10;

/// The fewest inodes that an allowance has: one unpacked package comes to some thousand.
const LEAST_INODES: u64 = 10_000;

/// The fewest bytes that an allowance has; a smaller wish is raised to this, as the engine itself puts files into each container.
const LEAST_BYTES: u64 = 1 << 20;

/// The longest time from one measurement of a task's storage to the next.
pub const LOOK: Duration = Duration::from_secs(5);
/// The shortest time from one measurement to the next.
const SOONEST: Duration = Duration::from_millis(500);

/// How much of the disk a task may take. A task that takes more is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Bytes on the disk.
    pub bytes: u64,
    /// Files, folders and links; one with several names counts once.
    pub inodes: u64,
}

/// How completely a task's files were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Counted {
    /// All files were counted.
    #[default]
    Whole,
    /// The count ended when it passed the allowance: there may be more.
    UntilOver,
    /// The count was given up, which counts as over: the folders are too deep, or the same files have too many names.
    Tangled,
}

/// How much a task has written, in blocks on the disk: holes in files do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Bytes in its container's own layer, and in the volumes that go with it.
    pub layer: u64,
    /// Bytes in `/output`, where that is not part of the layer.
    pub outputs: u64,
    /// Files, folders and links in layer, volumes and outputs; 0 where they could not be counted.
    pub inodes: u64,
    /// How completely the bytes and inodes were counted.
    pub counted: Counted,
    /// Free bytes of the fuller one of the disks that the task writes to; `None`: not known.
    pub free: Option<u64>,
}

/// A task has written more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// The measured amounts.
    pub written: Written,
    /// The amounts that it may write.
    pub allowance: Allowance,
}

impl Written {
    /// The bytes of layer, volumes and outputs together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layer.saturating_add(self.outputs)
    }
}

impl Allowance {
    /// The allowance of a task that wants these amounts; `None`: it asked for no storage, and has no limit.
    #[must_use]
    pub fn of(wants: &Wants) -> Option<Self> {
        let wanted = Amounts::of(wants).storage;
        let bytes = wanted.max(LEAST_BYTES);
        (wanted > 0).then_some(Self {
            bytes,
            inodes: (bytes / BYTES_OF_INODE).max(LEAST_INODES),
        })
    }

    /// The excess, if the written amounts are over this allowance, in bytes or inodes, or could not be counted to their end.
    #[must_use]
    pub fn over(&self, written: &Written) -> Option<Over> {
        let is_over = written.bytes() > self.bytes
            || written.inodes > self.inodes
            || written.counted == Counted::Tangled;
        is_over.then_some(Over {
            written: *written,
            allowance: *self,
        })
    }

    /// How long to wait until the next measurement: half of the time in which the task, at the pace that it had since the last
    /// measurement, uses its allowance up or leaves the disk only `low` free bytes; from half a second to five seconds.
    #[must_use]
    pub fn next_look(
        &self,
        before: &Written,
        now: &Written,
        between: Duration,
        low: u64,
    ) -> Duration {
        let of_disk = now.free.map_or(u64::MAX, |free| free.saturating_sub(low));
        let bytes = self.bytes.saturating_sub(now.bytes()).min(of_disk);
        let inodes = self.inodes.saturating_sub(now.inodes);
        let by_bytes = half_way(bytes, now.bytes().saturating_sub(before.bytes()), between);
        let by_inodes = half_way(inodes, now.inodes.saturating_sub(before.inodes), between);
        by_bytes.min(by_inodes)
    }
}

/// Half of the time until an amount that grew by `grown` within `between` has grown by `left` more.
fn half_way(left: u64, grown: u64, between: Duration) -> Duration {
    if grown == 0 {
        return LOOK;
    }
    let seconds = between.as_secs_f64() * float(left) / float(grown) / 2.0;
    let time = Duration::try_from_secs_f64(seconds).unwrap_or(LOOK);
    time.clamp(SOONEST, LOOK)
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (written, may) = (&self.written, &self.allowance);
        f.write_str("over its storage: ")?;
        if written.counted == Counted::UntilOver {
            f.write_str("at least ")?;
        }
        if written.bytes() > may.bytes {
            return write!(
                f,
                "{} of {} (layer {}, /output {})",
                Size(written.bytes()),
                Size(may.bytes),
                Size(written.layer),
                Size(written.outputs)
            );
        }
        if written.inodes > may.inodes {
            return write!(f, "{} inodes of {}", written.inodes, may.inodes);
        }
        f.write_str("its folders are too deep, or its files have too many names, to be counted")
    }
}

/// Bytes in the largest unit, with one decimal where needed, rounded up, so that an amount over a limit is shown as more than it.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (GIB, "GiB"),
            (1_048_576.0, "MiB"),
            (1_024.0, "KiB"),
            (1.0, "B"),
        ];
        let bytes = float(self.0);
        let (per, name) = units
            .into_iter()
            .find(|(per, _)| bytes >= *per)
            .unwrap_or((1.0, "B"));
        write!(f, "{} {name}", (bytes / per * 10.0).ceil() / 10.0)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shown to people, and a pace: exact up to 8 PiB"
)]
fn float(amount: u64) -> f64 {
    amount as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn allowance(storage: f64) -> Option<Allowance> {
        Allowance::of(&Wants {
            storage,
            ..Wants::default()
        })
    }

    fn layer(bytes: u64) -> Written {
        Written {
            layer: bytes,
            ..Written::default()
        }
    }

    #[test]
    fn inodes_go_with_bytes_and_a_tiny_wish_is_raised() {
        assert_eq!(allowance(0.0), None, "no limit");
        assert_eq!(allowance(f64::NAN), None);
        let tiny = allowance(1e-6).unwrap();
        assert_eq!((tiny.bytes, tiny.inodes), (MIB, 10_000));
        let large = allowance(1.0).unwrap();
        assert_eq!((large.bytes, large.inodes), (1 << 30, 65_536));
    }

    #[test]
    fn layer_and_outputs_count_together() {
        let one = allowance(1.0).unwrap();
        let both = |outputs| Written {
            layer: 1 << 29,
            outputs,
            ..Written::default()
        };

        assert_eq!(one.over(&both(1 << 29)), None, "all of it may be used");
        let over = one.over(&both((1 << 29) + MIB)).unwrap();
        assert_eq!(
            over.to_string(),
            "over its storage: 1.1 GiB of 1 GiB (layer 512 MiB, /output 513 MiB)"
        );
    }

    #[test]
    fn what_was_not_counted_to_its_end_is_told_so() {
        let one = allowance(1.0).unwrap();
        let inodes = Written {
            inodes: 65_537,
            counted: Counted::UntilOver,
            ..Written::default()
        };
        let tangled = Written {
            counted: Counted::Tangled,
            ..Written::default()
        };

        assert_eq!(
            one.over(&inodes).unwrap().to_string(),
            "over its storage: at least 65537 inodes of 65536"
        );
        let told = one.over(&tangled).unwrap().to_string();
        assert!(told.ends_with("to be counted"), "{told}");
    }

    #[test]
    fn sizes_are_rounded_up() {
        let shown = |bytes| Size(bytes).to_string();

        assert_eq!(shown(0), "0 B");
        assert_eq!(shown(20 * MIB), "20 MiB");
        assert_eq!(shown(20 * MIB + 1), "20.1 MiB");
        assert_eq!(shown(1_536), "1.5 KiB");
        assert_eq!(shown(5 << 30), "5 GiB");
    }

    #[test]
    fn the_next_look_comes_before_the_end_of_what_is_left() {
        let one = allowance(1.0).unwrap();
        let second = Duration::from_secs(1);
        let next = |before: u64, now: u64, free: Option<u64>| {
            let now = Written { free, ..layer(now) };
            one.next_look(&layer(before), &now, second, 256 * MIB)
        };

        assert_eq!(next(0, 0, None), LOOK, "it writes nothing");
        assert_eq!(next(0, 1, None), LOOK);
        // 624 MiB are left, which takes 3.12 s.
        assert_eq!(
            next(200 * MIB, 400 * MIB, None),
            Duration::from_millis(1_560)
        );
        assert_eq!(next(0, 1_000 * MIB, None), SOONEST);
        // Of 356 MiB that are free 100 MiB may go.
        let free = Some(356 * MIB);
        assert_eq!(next(350 * MIB, 400 * MIB, free), second);
        assert_eq!(next(400 * MIB, 400 * MIB, Some(0)), LOOK, "not its doing");
        assert_eq!(next(300 * MIB, 400 * MIB, Some(0)), SOONEST);
    }

    #[test]
    fn many_files_bring_the_next_look_forward_too() {
        let one = allowance(1.0).unwrap();
        let files = |inodes| Written {
            inodes,
            ..Written::default()
        };

        let next = one.next_look(&files(0), &files(25_536), Duration::from_secs(1), 0);

        assert!((SOONEST..LOOK).contains(&next), "{next:?}");
    }
}
