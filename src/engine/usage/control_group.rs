//! A container's control group, read as the kernel writes it: `Documentation/admin-guide/cgroup-v1` and `cgroup-v2.rst` of its
//! sources. The engine's id stands in the folder's name, so a folder of that name is that container's, whoever made it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::domain::usage::{Transfer, Usage};

/// What engines put before and behind a container's id in the path of its control group: Docker's two drivers, and Podman's.
const FORMS: [(&str, &str); 4] = [
    ("docker/", ""),
    ("system.slice/docker-", ".scope"),
    ("machine.slice/libpod-", ".scope"),
    ("libpod_parent/libpod-", ""),
];

/// What this container uses; `None` where its control group is not here. `root` is the file system's.
pub(super) fn read(root: &Path, id: &str) -> Option<Usage> {
    let groups = root.join("sys/fs/cgroup");
    let is_second = groups.join("cgroup.controllers").exists();
    let usage = match is_second {
        true => second(&folder(&groups, id)?),
        false => first(&groups, id),
    };
    let (mut usage, procs) = usage?;
    usage.network = network(root, &procs);
    Some(usage)
}

/// The processes of this container, by their folders below `/proc`; none where its control group is not here.
pub(in crate::engine) fn processes(root: &Path, id: &str) -> Vec<PathBuf> {
    let groups = root.join("sys/fs/cgroup");
    let tree = match groups.join("cgroup.controllers").exists() {
        true => groups,
        false => groups.join("memory"),
    };
    let listed = folder(&tree, id).map(|folder| fs::read_to_string(folder.join("cgroup.procs")));
    let listed = listed.and_then(Result::ok).unwrap_or_default();
    let process = |id| root.join("proc").join(id);
    listed.lines().map(process).collect()
}

fn folder(controller: &Path, id: &str) -> Option<PathBuf> {
    let mut folders = FORMS
        .iter()
        .map(|(before, behind)| controller.join(format!("{before}{id}{behind}")));
    folders.find(|folder| folder.is_dir())
}

/// Version 1: a tree for each controller.
fn first(groups: &Path, id: &str) -> Option<(Usage, String)> {
    let file = |controller: &str, name: &str| {
        let folder = folder(&groups.join(controller), id)?;
        fs::read_to_string(folder.join(name)).ok()
    };
    let number = |controller, name| number(&file(controller, name)?);
    let used = number("memory", "memory.usage_in_bytes")?;
    let parts = file("memory", "memory.stat")?;
    let disk = file("blkio", "blkio.throttle.io_service_bytes_recursive")
        .or_else(|| file("blkio", "blkio.throttle.io_service_bytes"));
    let usage = Usage {
        cpu: Duration::from_nanos(number("cpuacct", "cpuacct.usage")?),
        memory: used.saturating_sub(named(&parts, "total_inactive_file").unwrap_or(0)),
        peak_memory: number("memory", "memory.max_usage_in_bytes").unwrap_or(used),
        pids: number("pids", "pids.current").unwrap_or(0),
        disk: disk.map(|text| of_devices(&text)).unwrap_or_default(),
        network: None,
    };
    Some((usage, file("memory", "cgroup.procs").unwrap_or_default()))
}

/// Bytes read and written by lines of `8:0 Read 4096`.
fn of_devices(text: &str) -> Transfer {
    let sum = |wanted: &str| {
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let is_it = words.next()? == wanted;
            is_it.then(|| words.next()?.parse::<u64>().ok()).flatten()
        });
        lines.sum()
    };
    Transfer {
        into: sum("Read"),
        out: sum("Write"),
    }
}

/// Version 2: one tree. The kernel keeps the peak from 5.19 on.
fn second(folder: &Path) -> Option<(Usage, String)> {
    let file = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let used = number(&file("memory.current")?)?;
    let parts = file("memory.stat")?;
    let peak = file("memory.peak").and_then(|text| number(&text));
    let pids = file("pids.current").and_then(|text| number(&text));
    let usage = Usage {
        cpu: Duration::from_micros(named(&file("cpu.stat")?, "usage_usec")?),
        memory: used.saturating_sub(named(&parts, "inactive_file").unwrap_or(0)),
        peak_memory: peak.unwrap_or(used),
        pids: pids.unwrap_or(0),
        disk: file("io.stat")
            .map(|text| by_name(&text))
            .unwrap_or_default(),
        network: None,
    };
    Some((usage, file("cgroup.procs").unwrap_or_default()))
}

/// Bytes read and written by lines of `8:0 rbytes=4096 wbytes=0 rios=1 ...`.
fn by_name(text: &str) -> Transfer {
    let sum = |name: &str| {
        let values = text
            .split_whitespace()
            .filter_map(|word| word.strip_prefix(name)?.parse::<u64>().ok());
        values.sum()
    };
    Transfer {
        into: sum("rbytes="),
        out: sum("wbytes="),
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number in the line `name 17`.
fn named(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| number(line.strip_prefix(name)?.strip_prefix(' ')?))
}

/// Bytes that the network cards of the group's first process received and sent; `None` where its network is the machine's own, or
/// no process of the group is seen from here.
fn network(root: &Path, procs: &str) -> Option<Transfer> {
    let process = root.join("proc").join(procs.lines().next()?);
    let space = |process: &Path| fs::read_link(process.join("ns/net")).ok();
    if space(&process)? == space(&root.join("proc/self"))? {
        return None;
    }
    let table = fs::read_to_string(process.join("net/dev")).ok()?;
    let cards = table.lines().filter_map(|line| {
        let (card, figures) = line.split_once(':')?;
        let figures: Vec<u64> = figures
            .split_whitespace()
            .filter_map(|figure| figure.parse().ok())
            .collect();
        // What the container says to itself over `lo` leaves nothing.
        (card.trim() != "lo").then_some((*figures.first()?, *figures.get(8)?))
    });
    Some(
        cards.fold(Transfer::default(), |sum, (into, out)| Transfer {
            into: sum.into + into,
            out: sum.out + out,
        }),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    const ID: &str = "63c8a4320354eb2d726faa305d49e9419a2805aab9215c589b858a1d0659df73";

    fn machine(files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path.replace("ID", ID));
            fs::create_dir_all(path.parent().expect("below the root")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        root
    }

    fn spaces(root: &TempDir, of_process: &str) {
        for (process, space) in [("7", of_process), ("self", "net:[1]")] {
            let folder = root.path().join("proc").join(process).join("ns");
            fs::create_dir_all(&folder).expect("folders");
            symlink(space, folder.join("net")).expect("a link");
        }
    }

    /// Files of version 1, as a kernel 6.18 wrote them.
    const FIRST: [(&str, &str); 8] = [
        (
            "sys/fs/cgroup/memory/docker/ID/memory.usage_in_bytes",
            "1441792\n",
        ),
        (
            "sys/fs/cgroup/memory/docker/ID/memory.max_usage_in_bytes",
            "6082560\n",
        ),
        (
            "sys/fs/cgroup/memory/docker/ID/memory.stat",
            "cache 0\ninactive_file 1\ntotal_inactive_file 41792\n",
        ),
        ("sys/fs/cgroup/memory/docker/ID/cgroup.procs", "7\n8\n"),
        (
            "sys/fs/cgroup/cpuacct/docker/ID/cpuacct.usage",
            "2500000000\n",
        ),
        ("sys/fs/cgroup/pids/docker/ID/pids.current", "2\n"),
        (
            "sys/fs/cgroup/blkio/docker/ID/blkio.throttle.io_service_bytes_recursive",
            "254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 0\n254:0 Total 12288\n254:16 Read 1\nTotal 12289\n",
        ),
        (
            "proc/7/net/dev",
            "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
             lo:     500       5    0    0    0     0          0         0      500       5    0    0    0     0       0          0\n  \
             eth0:    1086      13    0    0    0     0          0         0      42       1    0    0    0     0       0          0\n",
        ),
    ];

    #[test]
    fn the_trees_of_version_1_are_read_together() {
        let root = machine(&FIRST);
        spaces(&root, "net:[2]");

        assert_eq!(
            read(root.path(), ID),
            Some(Usage {
                cpu: Duration::from_millis(2_500),
                memory: 1_400_000,
                peak_memory: 6_082_560,
                pids: 2,
                disk: Transfer {
                    into: 4_097,
                    out: 8_192
                },
                network: Some(Transfer {
                    into: 1_086,
                    out: 42
                }),
            })
        );
    }

    #[test]
    fn the_machines_own_network_is_nobodys() {
        let root = machine(&FIRST);
        spaces(&root, "net:[1]");

        assert_eq!(read(root.path(), ID).unwrap().network, None);
    }

    #[test]
    fn the_tree_of_version_2_is_read_under_either_driver() {
        for group in [
            "docker/ID",
            "system.slice/docker-ID.scope",
            "machine.slice/libpod-ID.scope",
        ] {
            let file = |name: &str| format!("sys/fs/cgroup/{group}/{name}");
            let files = [
                (
                    "sys/fs/cgroup/cgroup.controllers".to_owned(),
                    "cpu io memory pids\n",
                ),
                (file("memory.current"), "1441792\n"),
                (file("memory.stat"), "anon 1\ninactive_file 41792\n"),
                (file("memory.peak"), "6082560\n"),
                (file("cpu.stat"), "usage_usec 2500000\nuser_usec 1\n"),
                (file("pids.current"), "2\n"),
                (
                    file("io.stat"),
                    "254:0 rbytes=4096 wbytes=8192 rios=1\n254:16 rbytes=1 wbytes=0\n",
                ),
            ];
            let files: Vec<_> = files
                .iter()
                .map(|(path, text)| (path.as_str(), *text))
                .collect();
            let root = machine(&files);

            let usage = read(root.path(), ID).expect(group);

            assert_eq!(usage.cpu, Duration::from_millis(2_500));
            assert_eq!(
                (usage.memory, usage.peak_memory, usage.pids),
                (1_400_000, 6_082_560, 2)
            );
            assert_eq!(
                usage.disk,
                Transfer {
                    into: 4_097,
                    out: 8_192
                }
            );
            assert_eq!(usage.network, None, "no process of it is seen");
        }
    }

    #[test]
    fn a_kernel_that_keeps_no_peak_tells_what_is_used() {
        let root = machine(&[
            ("sys/fs/cgroup/cgroup.controllers", ""),
            ("sys/fs/cgroup/docker/ID/memory.current", "9\n"),
            ("sys/fs/cgroup/docker/ID/memory.stat", ""),
            ("sys/fs/cgroup/docker/ID/cpu.stat", "usage_usec 1\n"),
        ]);

        assert_eq!(read(root.path(), ID).unwrap().peak_memory, 9);
    }

    #[test]
    fn a_container_that_is_elsewhere_or_over_has_no_group_here() {
        let root = machine(&FIRST);

        assert_eq!(read(root.path(), &ID.replace('6', "5")), None);
        assert_eq!(read(&root.path().join("sys"), ID), None);
    }
}
