//! How data reaches standard output: forms, a checked writer, tables, colours; it never writes messages.

pub mod paint;
pub mod table;
pub mod writer;
pub mod yaml;

/// The form of everything that is printed as data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns, for people
    #[default]
    Table,
    /// Tables with more columns
    Wide,
    /// One JSON document
    Json,
    /// One JSON document per line
    Jsonl,
    /// One YAML document
    Yaml,
    /// Names or ids only, one per line
    Name,
}

impl Format {
    /// Whether a person reads it.
    pub fn is_human(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }

    /// Whether errors are written as JSON as well.
    pub fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Jsonl)
    }
}
