//! Rows are published JSON with a few columns to find them by. It knows no table.

use rusqlite::Params;
use rusqlite::{OptionalExtension, Transaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::transaction::Trouble;

pub(super) fn write<T: Serialize>(what: &'static str, value: &T) -> Result<String, Trouble> {
    serde_json::to_string(value).map_err(|source| Trouble::Row { what, source })
}

pub(super) fn read<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, Trouble> {
    serde_json::from_str(text).map_err(|source| Trouble::Row { what, source })
}

/// Every row's first column, decoded.
pub(super) fn all<T: DeserializeOwned>(t: &Transaction<'_>, what: &'static str, sql: &str, params: impl Params) -> Result<Vec<T>, Trouble> {
    let mut statement = t.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut values = Vec::new();
    while let Some(row) = rows.next()? {
        values.push(read(what, row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?);
    }
    Ok(values)
}

/// The first row's first column, decoded.
pub(super) fn one<T: DeserializeOwned>(
    t: &Transaction<'_>,
    what: &'static str,
    sql: &str,
    params: impl Params,
) -> Result<Option<T>, Trouble> {
    let text: Option<String> = t.prepare_cached(sql)?.query_row(params, |row| row.get(0)).optional()?;
    text.map(|text| read(what, &text)).transpose()
}
