//! The tasks of the demo and what is to be seen of each: what a first look at this system should show, in a few seconds.
//! Pure. The commands need nothing but a shell, `cat`, `mkdir` and `sleep`.

use super::table::Row;

/// One task of the demo and what should become of it.
pub(super) struct Part {
    /// Its name, which stands before each line of its log.
    pub(super) name: &'static str,
    /// What the task is there to show, for people.
    pub(super) shows: &'static str,
    /// What a shell in its container runs.
    pub(super) command: &'static str,
    /// The line of its log at which the task is cancelled; `None`: it is not.
    pub(super) cancel_at: Option<&'static str>,
    /// What the master should see of it.
    expected: Expected,
}

struct Expected {
    status: &'static str,
    exit: Option<i64>,
    last_line: Option<&'static str>,
    files: &'static [(&'static str, u64)],
}

/// All tasks of the demo; they run at the same time.
pub(super) const CAST: [Part; 5] = [
    Part {
        name: "files",
        shows: "succeeds, and its output files come back",
        command: "echo 'counting to three'; mkdir -p /output/parts; \
                  for n in 1 2 3; do echo \"$n\"; echo \"part $n\" > /output/parts/$n.txt; done; sleep 1; \
                  echo 'one two three' > /output/result.txt; echo 'wrote four files to /output'",
        cancel_at: None,
        expected: Expected {
            status: "completed",
            exit: Some(0),
            last_line: Some("wrote four files to /output"),
            files: &[
                ("parts/1.txt", 7),
                ("parts/2.txt", 7),
                ("parts/3.txt", 7),
                ("result.txt", 14),
            ],
        },
    },
    Part {
        name: "broken",
        shows: "fails with exit code 3",
        command: "echo 'looking for the input'; cat /input/data.csv || exit 3",
        cancel_at: None,
        expected: Expected {
            status: "failed",
            exit: Some(3),
            last_line: None,
            files: &[],
        },
    },
    Part {
        name: "endless",
        shows: "never ends, and is cancelled at its third line",
        command: "n=0; while true; do n=$((n+1)); echo \"still here: $n\"; sleep 1; done",
        cancel_at: Some("still here: 3"),
        expected: Expected {
            status: "cancelled",
            exit: None,
            last_line: None,
            files: &[],
        },
    },
    Part {
        name: "left",
        shows: "runs beside the others",
        command: "for n in 1 2 3; do echo \"left foot, step $n\"; sleep 1; done; echo 'left has arrived'",
        cancel_at: None,
        expected: Expected {
            status: "completed",
            exit: Some(0),
            last_line: Some("left has arrived"),
            files: &[],
        },
    },
    Part {
        name: "right",
        shows: "runs beside the others",
        command: "for n in 1 2 3; do echo \"right foot, step $n\"; sleep 1; done; echo 'right has arrived'",
        cancel_at: None,
        expected: Expected {
            status: "completed",
            exit: Some(0),
            last_line: Some("right has arrived"),
            files: &[],
        },
    },
];

impl Part {
    /// Each difference from what was expected, as a sentence.
    pub(super) fn complaints(&self, row: &Row, last_line: &str) -> Vec<String> {
        let Expected {
            status,
            exit,
            last_line: line,
            files,
        } = self.expected;
        let mut complaints = Vec::new();
        let mut complain = |what: &str, is: String, wanted: String| {
            complaints.push(format!(
                "  {}: {what} is {is}, should be {wanted}",
                self.name
            ));
        };
        if row.status != status {
            complain("its status", row.status.clone(), status.to_owned());
        }
        if let Some(code) = exit.filter(|code| row.exit != Some(*code)) {
            let is = row
                .exit
                .map_or("unknown".to_owned(), |code| code.to_string());
            complain("its exit code", is, code.to_string());
        }
        if let Some(line) = line.filter(|line| *line != last_line) {
            complain(
                "the last line of its log",
                format!("{last_line:?}"),
                format!("{line:?}"),
            );
        }
        let mut came = row.files.clone();
        came.sort();
        let wanted: Vec<_> = files
            .iter()
            .map(|(path, size)| ((*path).to_owned(), *size))
            .collect();
        if came != wanted {
            complain(
                "the list of its files",
                format!("{came:?}"),
                format!("{wanted:?}"),
            );
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files_row() -> Row {
        let files = CAST[0].expected.files.iter();
        Row {
            task: "files".to_owned(),
            status: "completed".to_owned(),
            exit: Some(0),
            seconds: Some(1.0),
            lines: 5,
            files: files
                .map(|(path, size)| ((*path).to_owned(), *size))
                .rev()
                .collect(),
        }
    }

    #[test]
    fn what_is_as_it_should_be_is_not_complained_of() {
        let complaints = CAST[0].complaints(&files_row(), "wrote four files to /output");

        assert!(complaints.is_empty(), "{complaints:?}");
    }

    #[test]
    fn each_thing_that_is_wrong_is_said() {
        let wrong = Row {
            status: "failed".to_owned(),
            exit: None,
            files: Vec::new(),
            ..files_row()
        };

        let complaints = CAST[0].complaints(&wrong, "");

        let words = [
            "status is failed",
            "exit code is unknown",
            "last line",
            "files is []",
        ];
        assert_eq!(complaints.len(), words.len());
        for (complaint, words) in complaints.iter().zip(words) {
            assert!(complaint.contains(words), "{complaint}");
        }
    }
}
