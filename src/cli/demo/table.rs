//! The table at the end of the demo: one row for each task, as wide as it needs to be. Pure.

/// One task as the table tells it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// The task's name.
    pub(super) task: String,
    /// The status in the master's database.
    pub(super) status: String,
    /// The container's exit code; `None` if none ran.
    pub(super) exit: Option<i64>,
    /// How long the container ran, in seconds.
    pub(super) seconds: Option<f64>,
    /// Number of lines of the log, without the trailer.
    pub(super) lines: u64,
    /// The output files: paths and sizes in bytes.
    pub(super) files: Vec<(String, u64)>,
}

const HEAD: [&str; 6] = [
    "task",
    "status",
    "exit",
    "duration",
    "log lines",
    "output files",
];
/// Columns of figures, which are read from the right.
const FIGURES: [bool; 6] = [false, false, true, true, true, false];

/// The table's lines, its head first.
pub(super) fn lines(rows: &[Row]) -> Vec<String> {
    let table: Vec<_> = std::iter::once(HEAD.map(str::to_owned))
        .chain(rows.iter().map(cells))
        .collect();
    let width = |column: usize| {
        let widths = table.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    table.iter().map(|row| line(row, &widths)).collect()
}

fn cells(row: &Row) -> [String; 6] {
    let nothing = || "-".to_owned();
    let files: Vec<_> = row
        .files
        .iter()
        .map(|(path, bytes)| format!("{path} ({bytes} B)"))
        .collect();
    [
        row.task.clone(),
        row.status.clone(),
        row.exit.map_or_else(nothing, |code| code.to_string()),
        row.seconds
            .map_or_else(nothing, |seconds| format!("{seconds:.1} s")),
        row.lines.to_string(),
        if files.is_empty() {
            nothing()
        } else {
            files.join(", ")
        },
    ]
}

fn line(row: &[String; 6], widths: &[usize; 6]) -> String {
    let cells = row.iter().zip(widths).zip(FIGURES);
    let cells: Vec<_> = cells
        .map(|((cell, width), is_figure)| {
            if is_figure {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        })
        .collect();
    cells.join("   ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_wide_as_it_needs_to_be() {
        let row = |task: &str, exit| Row {
            task: task.to_owned(),
            status: "completed".to_owned(),
            exit,
            seconds: exit.map(|_| 1.04),
            lines: 12,
            files: Vec::new(),
        };
        let with_files = Row {
            files: vec![("a.txt".to_owned(), 3), ("b/c".to_owned(), 0)],
            ..row("files", Some(0))
        };

        assert_eq!(
            lines(&[row("never", None), with_files]),
            [
                "task    status      exit   duration   log lines   output files",
                "never   completed      -          -          12   -",
                "files   completed      0      1.0 s          12   a.txt (3 B), b/c (0 B)",
            ]
        );
    }
}
