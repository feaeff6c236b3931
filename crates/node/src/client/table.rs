//! Rows for people on a terminal, and for programs elsewhere.

use serde_json::{Map, Value};
use std::io::{self, IsTerminal as _, Write as _};

/// A wider column is cut.
const WIDTH_MAX: usize = 60;

/// Prints a table on a terminal, else JSON lines. `columns` are the fields that a table shows, each
/// with its heading.
pub(super) fn print(
    rows: &[Map<String, Value>],
    columns: &[(&str, &str)],
    json: bool,
) -> io::Result<()> {
    let mut output = io::stdout().lock();
    let is_table = output.is_terminal() && !json;
    let text = match is_table {
        true => table(rows, columns),
        false => lines(rows)?,
    };
    output.write_all(text.as_bytes())?;
    output.flush()
}

fn lines(rows: &[Map<String, Value>]) -> io::Result<String> {
    let mut text = String::new();
    for row in rows {
        text.push_str(&serde_json::to_string(row)?);
        text.push('\n');
    }
    Ok(text)
}

/// Headings are bold, and a column is as wide as its widest cell.
fn table(rows: &[Map<String, Value>], columns: &[(&str, &str)]) -> String {
    const BOLD: &str = "\x1b[1m";
    const PLAIN: &str = "\x1b[0m";

    let mut lines = vec![
        columns
            .iter()
            .map(|(_, title)| (*title).to_owned())
            .collect(),
    ];
    lines.extend(rows.iter().map(|row| -> Vec<String> {
        let cells = columns.iter().map(|(field, _)| cell(row.get(*field)));
        cells.collect()
    }));
    let width = |at: usize| {
        let cells = lines.iter().filter_map(|line| line.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(&widths);
        let cells = cells.map(|(cell, &width)| format!("{cell:<width$}"));
        let cells: Vec<_> = cells.collect();
        let line = cells.join("  ");
        let line = line.trim_end();
        match number {
            0 => text.push_str(&format!("{BOLD}{line}{PLAIN}\n")),
            _ => text.push_str(&format!("{line}\n")),
        }
    }
    text
}

/// A value as a cell, without what a terminal would obey.
fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(value) => value.to_string(),
    };
    let shown = text.chars().map(|letter| match letter.is_control() {
        true => '?',
        false => letter,
    });
    let shown: Vec<_> = shown.collect();
    if shown.len() <= WIDTH_MAX {
        return shown.into_iter().collect();
    }
    let cut = shown.into_iter().take(WIDTH_MAX - 1);
    cut.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_has_its_columns_below_each_other_and_nothing_a_terminal_obeys() {
        let rows = [
            json!({"id": "a\u{1b}[31m", "sessions": 5}),
            json!({"id": "b", "sessions": null, "more": "not shown"}),
        ];
        let rows: Vec<_> = rows.iter().filter_map(Value::as_object).cloned().collect();
        let columns = [("id", "ID"), ("sessions", "SESSIONS")];
        assert_eq!(
            table(&rows, &columns),
            "\u{1b}[1mID      SESSIONS\u{1b}[0m\na?[31m  5\nb       -\n"
        );
        assert_eq!(
            lines(&rows).unwrap().lines().last(),
            Some(r#"{"id":"b","more":"not shown","sessions":null}"#)
        );
        let long = json!("x".repeat(100));
        assert_eq!(cell(Some(&long)).chars().count(), WIDTH_MAX);
    }
}
