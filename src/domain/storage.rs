//! The disk that a task may take: how much it asked for, whether what it has written is more, and when to look again. Pure.

use std::{fmt, time::Duration};

use super::{
    admission::Amounts,
    spec::{GIB, Wants},
};

/// One inode goes with so many bytes asked for: as many as mke2fs makes on a disk (`inode_ratio` in `mke2fs.conf`).
const BYTES_OF_INODE: u64 = 16 << 10;

/// No task has fewer inodes: an unpacked package comes to some thousand.
const LEAST_INODES: u64 = 10_000;

/// A smaller wish is raised to this, in bytes: the engine itself puts some files into each container.
const LEAST_BYTES: u64 = 1 << 20;

/// From one look to the next at most, and at least.
pub const LOOK: Duration = Duration::from_secs(5);
const SOONEST: Duration = Duration::from_millis(500);

/// What a task may take of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Bytes.
    pub bytes: u64,
    /// Files, folders and links, each with all its names counted once.
    pub inodes: u64,
}

/// How far what it has written was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Counted {
    /// All of it.
    #[default]
    Whole,
    /// Until it was too much: there may be more.
    UntilOver,
    /// Until it could not be counted in any time: folders too deep, or too many names of the same files.
    Tangled,
}

/// What a task has written, as the disk has it: holes do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Bytes in its container's own layer, and in the volumes that go with it.
    pub layer: u64,
    /// Bytes in `/output`, where that is not part of the layer.
    pub outputs: u64,
    /// Files, folders and links in both; 0 where nobody tells.
    pub inodes: u64,
    /// How far that was counted.
    pub counted: Counted,
    /// Bytes that the fuller one of its disks has left, where that is known.
    pub free: Option<u64>,
}

/// A task has written more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// What it has written.
    pub written: Written,
    /// What it may.
    pub allowance: Allowance,
}

impl Written {
    /// Bytes of all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.layer.saturating_add(self.outputs)
    }
}

impl Allowance {
    /// What goes with these wishes; `None` for no limit.
    #[must_use]
    pub fn of(wants: &Wants) -> Option<Self> {
        let wanted = Amounts::of(wants).storage;
        let bytes = wanted.max(LEAST_BYTES);
        (wanted > 0).then_some(Self {
            bytes,
            inodes: (bytes / BYTES_OF_INODE).max(LEAST_INODES),
        })
    }

    /// Whether that is too much.
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

    /// How long until the next look: half of the time in which the task comes to its end of it at the pace that it had since
    /// the look before, or to `low` free bytes on the disk; from half a second to five seconds.
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

/// Half of the time in which so much more is reached by what grew so much in that time.
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

/// Bytes in the largest unit, with one decimal where it is not whole, rounded up: what is over a limit looks so.
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
