//! Rows of cells as a table for people, each column as wide as it must be.

/// What stands between two columns.
const GAP: &str = "  ";

/// The table, a line for each row. A row whose second cell is empty is a line of its own, and widens no column.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows.iter().filter(|row| N < 2 || !row[1].is_empty()) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut table = String::new();
    for row in rows {
        let cells = row.iter().zip(widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}{GAP}"))
            .collect();
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_no_line_ends_in_blanks() {
        let rows = [["A", "B"], ["é1234", ""], ["xyz", "1"], ["x", "22"]];

        let table = aligned(&rows.map(|row| row.map(str::to_owned)));

        assert_eq!(table, "A    B\né1234\nxyz  1\nx    22\n");
    }
}
