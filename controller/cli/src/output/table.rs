//! Aligned columns without borders; cells never wrap, so that every row stays one line for `grep`.

use comfy_table::{Table, presets};
use proto_telling::terminal::visible;

/// Lines of a table: the header first, columns two spaces apart.
pub fn lines(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| one_line(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// An absent value as people see it.
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn one_line(cell: &str) -> String {
    or_dash(&visible(cell))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_absent_is_a_dash() {
        let rows = [vec!["web".to_owned(), String::new()], vec!["cache-1".to_owned(), "a\nb".to_owned()]];
        assert_eq!(lines(&["NAME", "NOTE"], &rows), ["NAME     NOTE", "web      -", "cache-1  a\\nb"]);
        assert_eq!(lines(&["NAME"], &[]), ["NAME"]);
    }
}
