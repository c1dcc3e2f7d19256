//! What a container has used of the machine, as it was last seen.

use std::time::Duration;

/// What a container has used since its start, and what it uses now, by the last look at it: what it used after that is not in these
/// figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, of all cores together.
    pub cpu: Duration,
    /// Memory now, in bytes, without the file cache that the kernel drops first.
    pub memory: u64,
    /// The most memory at once, in bytes: the kernel's own mark where it keeps one, which counts file cache too.
    pub peak_memory: u64,
    /// Processes and threads now.
    pub pids: u64,
    /// Bytes read from and written to block devices.
    pub disk: Transfer,
    /// Bytes received and sent; `None` where the network is the machine's own.
    pub network: Option<Transfer>,
}

/// Bytes in two directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Read, or received.
    pub into: u64,
    /// Written, or sent.
    pub out: u64,
}

impl Usage {
    /// Takes in a later look. A figure that only grows does not shrink: a look may have come from a source that knows less.
    pub fn take(&mut self, later: Self) {
        *self = Self {
            cpu: self.cpu.max(later.cpu),
            memory: later.memory,
            peak_memory: self.peak_memory.max(later.peak_memory).max(later.memory),
            pids: later.pids,
            disk: self.disk.max(later.disk),
            network: match (self.network, later.network) {
                (Some(before), Some(later)) => Some(before.max(later)),
                (before, later) => later.or(before),
            },
        };
    }
}

impl Transfer {
    fn max(self, other: Self) -> Self {
        Self {
            into: self.into.max(other.into),
            out: self.out.max(other.out),
        }
    }
}

/// What a container uses, and how fast.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Use {
    /// The figures of the last look.
    pub usage: Usage,
    /// Cores that it kept busy between the last two looks.
    pub cores: f64,
}

impl Use {
    /// Takes in a later look, `after` the one before; after the container's start, where it is the first.
    pub fn take(&mut self, later: Usage, after: Duration) {
        let before = self.usage.cpu;
        self.usage.take(later);
        let busy = self.usage.cpu.saturating_sub(before);
        if !after.is_zero() {
            self.cores = busy.as_secs_f64() / after.as_secs_f64();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(cpu: u64, memory: u64, sent: Option<u64>) -> Usage {
        Usage {
            cpu: Duration::from_secs(cpu),
            memory,
            network: sent.map(|out| Transfer { into: 0, out }),
            ..Usage::default()
        }
    }

    #[test]
    fn what_only_grows_does_not_shrink_with_a_look_that_knows_less() {
        let mut seen = usage(2, 70, Some(5));
        seen.take(usage(1, 30, None));

        assert_eq!(seen.cpu, Duration::from_secs(2));
        assert_eq!((seen.memory, seen.peak_memory), (30, 30));
        assert_eq!(seen.network.unwrap().out, 5);

        seen.take(usage(3, 90, Some(7)));
        seen.take(usage(3, 10, Some(7)));
        assert_eq!((seen.memory, seen.peak_memory), (10, 90));
        assert_eq!(seen.network.unwrap().out, 7);
    }

    #[test]
    fn cores_are_those_since_the_last_look() {
        let mut seen = Use::default();

        seen.take(usage(1, 0, None), Duration::from_secs(2));
        assert_eq!(seen.cores, 0.5);
        seen.take(usage(7, 0, None), Duration::from_secs(3));
        assert_eq!(seen.cores, 2.0);
        seen.take(usage(7, 0, None), Duration::ZERO);
        assert_eq!(seen.cores, 2.0, "two looks at once say nothing new");
        seen.take(usage(7, 0, None), Duration::from_secs(5));
        assert_eq!(seen.cores, 0.0);
    }
}
