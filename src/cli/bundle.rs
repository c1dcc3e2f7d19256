//! `worker-node bundle`: all that somebody else needs to see of a worker that has trouble, in one file. Each part is what a command of
//! this program says, asked as its operator would: so nothing is in it that they do not show, and what cannot be had without a
//! worker is there as the reason why not.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::UNIX_EPOCH,
};

use flate2::{Compression, write::GzEncoder};

use super::{ask, words};
use crate::{
    exit::Exit,
    ports::clock::{Clock, SystemClock},
};

/// The arguments of `worker-node bundle`, checked.
#[derive(Debug, PartialEq, Eq)]
pub struct BundleCommand {
    /// The worker's state folder.
    pub folder: PathBuf,
    /// Its configuration file, where one was named.
    pub(super) config: Option<OsString>,
    /// The archive to write; no file may be there yet.
    pub(super) file: PathBuf,
}

/// The files of a bundle, each with the words of the command that prints it.
const PARTS: [(&str, &[&str]); 11] = [
    ("version.txt", &["version"]),
    ("config.toml", &["config", "show", "--origin", "--redact"]),
    ("doctor.txt", &["doctor"]),
    ("status.txt", &["status"]),
    ("status.json", &["status", "--json"]),
    ("actors.txt", &["actors"]),
    ("actors.json", &["actors", "--json"]),
    ("events.jsonl", &["events", "--json"]),
    ("audit.jsonl", &["events", "--audit", "--json"]),
    ("state.txt", &["state", "check"]),
    ("loglevel.txt", &["loglevel"]),
];

/// This very program, even where its file was replaced since it began.
const PROGRAM: &str = "/proc/self/exe";

/// The program that shows the worker's own log where the worker runs under systemd.
const JOURNAL: &str = "journalctl";
const JOURNAL_WORDS: &[&str] = &["--no-pager", "--lines=5000", "_COMM=worker-node"];

/// The folder in the archive that holds all its files.
const WITHIN: &str = "worker-node-bundle";

/// The output of one command.
struct Part {
    name: &'static str,
    asked: String,
    said: Vec<u8>,
    /// What it wrote to standard error.
    complained: String,
    /// `None`: the command could not be run, or a signal ended it.
    code: Option<i32>,
}

/// Makes the file, and says what is in it.
pub fn perform(command: &BundleCommand) -> Exit {
    let file = &command.file;
    let shown = words::foreign(&file.to_string_lossy(), 1_024);
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    let made = match made {
        Ok(made) => made,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            ask::complain(&format!("{shown} is there already; give another name"));
            return Exit::Usage;
        }
        Err(error) => return unwritten(&shown, &error),
    };
    match fill(made, command) {
        Ok(told) => ask::put(&format!("{shown}: {told}\n")),
        Err(error) => {
            // Half an archive helps nobody.
            let _ = fs::remove_file(file);
            unwritten(&shown, &error)
        }
    }
}

fn unwritten(shown: &str, error: &io::Error) -> Exit {
    ask::complain(&format!("{shown} cannot be written: {error}"));
    match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::Permission,
        _ => Exit::Unexpected,
    }
}

fn fill(file: fs::File, command: &BundleCommand) -> io::Result<String> {
    let asked = PARTS.iter();
    let mut parts: Vec<_> = asked
        .map(|(name, words)| Part::of(name, own(words, command)))
        .collect();
    let mut journal = Command::new(JOURNAL);
    journal.args(JOURNAL_WORDS);
    parts.push(Part::of("log.txt", journal));
    let file = archive(file, &parts, seconds())?;
    file.sync_all()?;
    let missing: Vec<_> = parts.iter().filter(|part| part.is_missing()).collect();
    let mut told = format!("{} parts", parts.len());
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|part| part.name).collect();
        let _ = write!(
            told,
            ", not to be had: {} (each says why)",
            names.join(", ")
        );
    }
    told.push_str("; it names tasks, images and addresses, and has no secret of the worker's");
    Ok(told)
}

fn seconds() -> u64 {
    let since = SystemClock.now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A command of this program, asked about the bundle's worker.
fn own(words: &[&str], command: &BundleCommand) -> Command {
    let mut asking = Command::new(PROGRAM);
    asking.args(words);
    if words != ["version"] {
        asking.arg("--state-dir").arg(&command.folder);
        if let Some(config) = &command.config {
            asking.arg("--config").arg(config);
        }
    }
    asking
}

impl Part {
    fn of(name: &'static str, mut command: Command) -> Self {
        let words = command.get_args().map(|word| word.to_string_lossy());
        let words = words.collect::<Vec<_>>().join(" ");
        let program = match command.get_program() == PROGRAM {
            true => "worker-node".into(),
            false => command.get_program().to_string_lossy(),
        };
        let asked = format!("{program} {words}");
        match command.stdin(Stdio::null()).output() {
            Ok(output) => Self {
                name,
                asked,
                said: output.stdout,
                complained: String::from_utf8_lossy(&output.stderr).into_owned(),
                code: output.status.code(),
            },
            Err(error) => Self {
                complained: format!("{asked} cannot be run: {error}\n"),
                name,
                asked,
                said: Vec::new(),
                code: None,
            },
        }
    }

    /// Whether the command failed and printed nothing; then its standard error is all there is of it.
    fn is_missing(&self) -> bool {
        self.said.is_empty() && self.code != Some(0)
    }

    fn content(&self) -> &[u8] {
        match self.is_missing() {
            true => self.complained.as_bytes(),
            false => &self.said,
        }
    }
}

/// The text of `README.txt`: each file with its command, that command's exit code and what it wrote to standard error.
fn contents(parts: &[Part]) -> String {
    let mut told = String::from(
        "What a worker-node has to say of itself, each part by the command that says it.\n\
         config.toml and doctor.txt go by the configuration file and the variables of whoever asked: the flags of a worker that\n\
         runs stand in `ps`. log.txt is of systemd's journal; a worker that runs otherwise has its log where its standard error goes.\n\
         A panic stands in events.jsonl with its message and its place.\n\n",
    );
    for part in parts {
        let code = part.code.map_or("no exit code".to_owned(), |code| {
            format!("exit code {code}")
        });
        let _ = writeln!(told, "{:<14} {}: {code}", part.name, part.asked);
        for line in part.complained.lines() {
            let _ = writeln!(told, "{:<14}   {}", "", words::foreign(line, 4_096));
        }
    }
    told
}

fn archive<W: Write>(out: W, parts: &[Part], now: u64) -> io::Result<W> {
    let mut archive = tar::Builder::new(GzEncoder::new(out, Compression::default()));
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        archive.append_data(&mut header, Path::new(WITHIN).join(name), content)
    };
    add("README.txt", contents(parts).as_bytes())?;
    for part in parts {
        add(part.name, part.content())?;
    }
    archive.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn a_bundle_holds_each_part_and_says_what_is_missing_and_why() {
        let there = Part {
            name: "version.txt",
            asked: "worker-node version".into(),
            said: b"worker-node 0\n".to_vec(),
            complained: String::new(),
            code: Some(0),
        };
        let missing = Part {
            name: "status.txt",
            asked: "worker-node status".into(),
            said: Vec::new(),
            complained: "error: no worker runs\n".into(),
            code: Some(3),
        };
        assert!(missing.is_missing() && !there.is_missing());

        let bundle = archive(Vec::new(), &[there, missing], 7).unwrap();

        let mut bundle = tar::Archive::new(GzDecoder::new(bundle.as_slice()));
        let read = bundle.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            assert_eq!(entry.header().mode().unwrap(), 0o600);
            (name, text)
        });
        let read: Vec<_> = read.collect();
        let names: Vec<_> = read.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["README.txt", "version.txt", "status.txt"].map(|name| format!("{WITHIN}/{name}"))
        );
        assert!(
            read[0].1.contains("worker-node status: exit code 3\n"),
            "{}",
            read[0].1
        );
        assert!(read[0].1.contains("  error: no worker runs\n"));
        assert_eq!(read[1].1, "worker-node 0\n");
        assert_eq!(read[2].1, "error: no worker runs\n");
    }
}
