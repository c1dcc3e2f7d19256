//! The engine's stats of a container as its use.

use std::time::Duration;

use bollard::models::ContainerStatsResponse;

use crate::domain::usage::{Transfer, Usage};

/// What the stats tell; `None` where they tell nothing, as for a container that does not run.
pub(super) fn usage(stats: &ContainerStatsResponse) -> Option<Usage> {
    let memory = stats.memory_stats.as_ref();
    let used = memory.and_then(|memory| memory.usage).unwrap_or(0);
    // The name of the file cache that can be dropped, in control groups of version 1, and of version 2.
    let cache = memory
        .and_then(|memory| memory.stats.as_ref())
        .map(|parts| {
            let parts =
                ["total_inactive_file", "inactive_file"].map(|name| parts.get(name).copied());
            parts.into_iter().flatten().next().unwrap_or(0)
        });
    let peak = memory.and_then(|memory| memory.max_usage).unwrap_or(0);
    let cpu = stats
        .cpu_stats
        .as_ref()
        .and_then(|cpu| cpu.cpu_usage.as_ref());
    let nanos = cpu.and_then(|cpu| cpu.total_usage).unwrap_or(0);
    let pids = stats.pids_stats.as_ref().and_then(|pids| pids.current);
    (used > 0 || nanos > 0).then(|| Usage {
        cpu: Duration::from_nanos(nanos),
        memory: used.saturating_sub(cache.unwrap_or(0)),
        peak_memory: peak.max(used),
        pids: pids.unwrap_or(0),
        disk: disk(stats),
        network: network(stats),
    })
}

fn disk(stats: &ContainerStatsResponse) -> Transfer {
    let blocks = stats.blkio_stats.as_ref();
    let entries = blocks.and_then(|blocks| blocks.io_service_bytes_recursive.as_ref());
    let sum = |wanted: &str| {
        let entries = entries.into_iter().flatten();
        let wanted = entries.filter(|entry| {
            let is_it = |op: &String| op.eq_ignore_ascii_case(wanted);
            entry.op.as_ref().is_some_and(is_it)
        });
        wanted.filter_map(|entry| entry.value).sum()
    };
    Transfer {
        into: sum("read"),
        out: sum("write"),
    }
}

fn network(stats: &ContainerStatsResponse) -> Option<Transfer> {
    let cards = stats.networks.as_ref()?.values();
    Some(Transfer {
        into: cards.clone().filter_map(|card| card.rx_bytes).sum(),
        out: cards.filter_map(|card| card.tx_bytes).sum(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(stats: serde_json::Value) -> Option<Usage> {
        usage(&serde_json::from_value(stats).expect("the engine's form"))
    }

    #[test]
    fn an_engine_on_control_groups_of_version_1_tells_all() {
        let stats = json!({
            "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000_u64}},
            "memory_stats": {"usage": 700, "max_usage": 900, "stats": {"total_inactive_file": 200, "inactive_file": 1}},
            "pids_stats": {"current": 3},
            "blkio_stats": {"io_service_bytes_recursive": [
                {"major": 8, "minor": 0, "op": "Read", "value": 10},
                {"major": 8, "minor": 16, "op": "Read", "value": 5},
                {"major": 8, "minor": 0, "op": "Write", "value": 7},
                {"major": 8, "minor": 0, "op": "Total", "value": 22},
            ]},
            "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
        });

        assert_eq!(
            told(stats),
            Some(Usage {
                cpu: Duration::from_millis(2_500),
                memory: 500,
                peak_memory: 900,
                pids: 3,
                disk: Transfer { into: 15, out: 7 },
                network: Some(Transfer { into: 11, out: 22 }),
            })
        );
    }

    #[test]
    fn one_on_version_2_keeps_no_peak_and_writes_small() {
        let stats = json!({
            "memory_stats": {"usage": 700, "stats": {"inactive_file": 200}},
            "blkio_stats": {"io_service_bytes_recursive": [{"op": "read", "value": 10}, {"op": "write", "value": 7}]},
        });

        let usage = told(stats).unwrap();

        assert_eq!((usage.memory, usage.peak_memory), (500, 700));
        assert_eq!(usage.disk, Transfer { into: 10, out: 7 });
        assert_eq!(usage.network, None, "it is the machine's");
    }

    #[test]
    fn what_does_not_run_uses_nothing_that_is_a_figure() {
        assert_eq!(told(json!({})), None);
        assert_eq!(
            told(json!({"memory_stats": {}, "cpu_stats": {"cpu_usage": {"total_usage": 0}}})),
            None
        );
    }
}
