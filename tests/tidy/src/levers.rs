//! Whether each lever, a file of its folder, has its `mod` and its line of the table, and each only once.

/// The folder of levers, and the file that declares and lists them.
pub const FOLDER: &str = "agent/levers/src/kinds/";
pub const TABLE: &str = "agent/levers/src/kinds/mod.rs";

/// What does not fit between these files of the folder, by their stems, and the text of the table's file.
pub fn wrong(files: &[String], table: &str) -> Vec<String> {
    let declared: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("pub(crate) mod ")?.strip_suffix(';'))
        .collect();
    let rows = table.split_once("\nlevers! {\n").map_or("", |(_, rest)| rest);
    let rows = rows.split_once("\n}\n").map_or(rows, |(rows, _)| rows);
    let listed: Vec<&str> = rows
        .lines()
        .filter(|line| line.contains("=>"))
        .filter_map(|line| line.trim().split_once(": ").map(|(file, _)| file))
        .collect();
    let mut wrong = Vec::new();
    for file in files {
        for (names, what) in [(&declared, "`mod` lines"), (&listed, "lines of the table")] {
            let count = names.iter().filter(|name| **name == file.as_str()).count();
            if count != 1 {
                wrong.push(format!("{file} has {count} {what} in {TABLE} (allowed: 1)"));
            }
        }
    }
    // A `mod` without a file does not compile, and neither does a row; so this only finds what the test itself misreads.
    let unknown = listed.iter().filter(|name| !files.iter().any(|file| file == *name));
    wrong.extend(unknown.map(|name| format!("{name} is in the table of {TABLE} and is no file of the folder")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lever_without_its_lines_is_found() {
        let table = "pub(crate) mod one;\npub(crate) mod two;\n\nlevers! {\n    one: Ops => A, B;\n    one: Ops => C;\n}\n\ntype T = U;\n";
        let files = ["one", "three", "two"].map(str::to_owned);
        let found = wrong(&files, table);
        assert_eq!(found.len(), 4, "{found:?}");
        for (at, start) in ["one has 2 lines", "three has 0 `mod`", "three has 0 lines", "two has 0 lines"]
            .iter()
            .enumerate()
        {
            assert!(found[at].starts_with(start), "{found:?}");
        }
        assert_eq!(
            wrong(&["one".to_owned()], "pub(crate) mod one;\n\nlevers! {\n    one: Ops => A;\n}\n"),
            [""; 0]
        );
    }
}
