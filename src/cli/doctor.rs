//! `worker-node doctor`: whether a worker with this configuration can do its work here, one line for each thing that was looked at:
//! its verdict, why, and what to do. `app` makes the findings; this prints them.

use serde_json::json;

use super::{Answer, args::DoctorArgs, ask, reading::Reading, words};
use crate::{
    config::Launch,
    exit::Exit,
    ports::doctor::{Finding, Verdict},
};

/// Bytes of a finding's reason and of its remedy that are shown.
const WORDS: usize = 1_024;

/// The arguments of `worker-node doctor`.
#[derive(Debug, PartialEq)]
pub struct DoctorCommand {
    /// The configuration to be looked at, or each mistake in it as a sentence.
    launch: Result<Box<Launch>, Vec<String>>,
    json: bool,
}

impl DoctorCommand {
    pub(super) fn new(args: &DoctorArgs, reading: &Reading) -> Result<Self, Answer> {
        let launch = match reading.launch(&args.run.flags) {
            Ok(launch) => Ok(Box::new(launch)),
            Err(Answer::Values(mistakes)) => {
                let mistakes = mistakes.0.into_iter();
                Err(mistakes.map(|mistake| mistake.sentence).collect())
            }
            Err(words) => return Err(words),
        };
        let json = args.json;
        Ok(Self { launch, json })
    }
}

/// Has `diagnose` look at everything, and prints its findings.
pub fn perform(command: &DoctorCommand, diagnose: impl FnOnce(&Launch) -> Vec<Finding>) -> Exit {
    let findings = match &command.launch {
        Ok(launch) => diagnose(launch),
        Err(mistakes) => wrong(mistakes),
    };
    let text = match command.json {
        true => json(&findings),
        false => page(&findings),
    };
    match (ask::put(&text), is_well(&findings)) {
        (Exit::Clean, false) => Exit::Unexpected,
        (exit, _) => exit,
    }
}

/// Each mistake as a finding: without a configuration nothing else can be looked at.
fn wrong(mistakes: &[String]) -> Vec<Finding> {
    let of_one = |mistake: &String| {
        Finding::fault("configuration", mistake).remedy("mend it; all else is looked at then")
    };
    mistakes.iter().map(of_one).collect()
}

fn is_well(findings: &[Finding]) -> bool {
    !findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Fault)
}

/// A line for each finding: `fault    master         m:1: connection refused -> see that it runs`
fn page(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let (verdict, part) = (finding.verdict.word(), finding.part);
        let why = words::foreign(&finding.why, WORDS);
        let remedy = finding.remedy.as_ref();
        let remedy = remedy.map(|remedy| format!(" -> {}", words::foreign(remedy, WORDS)));
        format!(
            "{verdict:<8} {part:<13} {why}{}\n",
            remedy.unwrap_or_default()
        )
    };
    findings.iter().map(line).collect()
}

fn json(findings: &[Finding]) -> String {
    let of_one = |finding: &Finding| {
        json!({
            "part": finding.part,
            "verdict": finding.verdict.word(),
            "why": finding.why,
            "remedy": finding.remedy,
        })
    };
    let page = json!({
        "version": words::JSON_VERSION,
        "well": is_well(findings),
        "findings": findings.iter().map(of_one).collect::<Vec<_>>(),
    });
    format!("{page}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_a_line_with_its_verdict_its_cause_and_what_to_do() {
        let findings = [
            Finding::fine("engine", "unix:///e answers"),
            Finding::fault("master", "m:1: refused\n").remedy("start it"),
            Finding::skipped("clock", "no time"),
        ];

        assert_eq!(
            page(&findings),
            "ok       engine        unix:///e answers\n\
             fault    master        m:1: refused\\n -> start it\n\
             skipped  clock         no time\n"
        );
        assert!(!is_well(&findings));
        assert!(is_well(&findings[..1]));
    }

    #[test]
    fn programs_are_told_the_same() {
        let told = json(&[Finding::warning("disk", "little").remedy("more")]);

        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["well"], true);
        assert_eq!(told["findings"][0]["verdict"], "warning");
        assert_eq!(told["findings"][0]["remedy"], "more");
    }
}
