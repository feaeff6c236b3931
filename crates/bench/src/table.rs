//! An aligned two-column table for people.

use std::fmt;

/// Rows in groups; groups are set apart by an empty line.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Option<(String, String)>>,
}

impl Table {
    pub(crate) fn row(&mut self, label: &str, value: impl fmt::Display) {
        self.rows.push(Some((label.to_owned(), value.to_string())));
    }

    pub(crate) fn gap(&mut self) {
        self.rows.push(None);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.rows.iter().flatten();
        let width = labels.map(|(label, _)| label.chars().count()).max();
        let width = width.unwrap_or(0);
        for row in &self.rows {
            match row {
                Some((label, value)) => writeln!(f, "{label:<width$}  {value}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

/// 1234567 as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds in the unit that fits.
pub(crate) fn time(micros: f64) -> String {
    match micros {
        _ if micros < 1e3 => format!("{micros:.0} µs"),
        _ if micros < 1e6 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

/// Bytes in the unit that fits; 1 KB is 1,000 bytes, as in the targets' figures.
pub(crate) fn size(bytes: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let value = bytes as f64;
    match value.abs() {
        magnitude if magnitude < 1e4 => format!("{bytes} B"),
        magnitude if magnitude < 1e6 => format!("{:.1} KB", value / 1e3),
        _ => format!("{:.1} MB", value / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(time(12.4), "12 µs");
        assert_eq!(time(66_500.0), "66.5 ms");
        assert_eq!(time(2e6), "2.00 s");
        assert_eq!(size(-3000), "-3000 B");
        assert_eq!(size(10_300), "10.3 KB");
        assert_eq!(size(103_000_000), "103.0 MB");
    }

    #[test]
    fn labels_line_up() {
        let mut table = Table::default();
        table.row("a", 1);
        table.gap();
        table.row("µµµ", "x");
        assert_eq!(table.to_string(), "a    1\n\nµµµ  x\n");
    }
}
