//! Catalogues by their digest, each stored once however many hosts have it.

use proto_model::catalogue::Catalogue;
use proto_model::id::HostName;
use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;

use super::codec;
use super::transaction::Trouble;

pub(super) fn all(t: &Transaction<'_>) -> Result<Vec<Catalogue>, Trouble> {
    codec::all(t, "a catalogue", "SELECT catalogue FROM catalogues ORDER BY digest", [])
}

pub(super) fn put(t: &Transaction<'_>, catalogue: &Catalogue) -> Result<(), Trouble> {
    t.prepare_cached("INSERT OR IGNORE INTO catalogues (digest, catalogue) VALUES (?1, ?2)")?
        .execute(params![catalogue.digest(), codec::write("a catalogue", catalogue)?])?;
    Ok(())
}

/// The digest that a host has in the store.
pub(super) fn of_host(t: &Transaction<'_>, host: &HostName) -> Result<Option<String>, Trouble> {
    let mut statement = t.prepare_cached("SELECT catalogue FROM hosts WHERE name = ?1")?;
    Ok(statement.query_row([host.as_str()], |row| row.get(0)).optional()?)
}

pub(super) fn forget_unused(t: &Transaction<'_>, digest: &str) -> Result<(), Trouble> {
    let sql = "DELETE FROM catalogues WHERE digest = ?1 AND NOT EXISTS (SELECT 1 FROM hosts WHERE catalogue = ?1)";
    t.prepare_cached(sql)?.execute([digest])?;
    Ok(())
}

/// Takes the catalogues out of the hosts' records, where they were before they had a table.
pub(super) fn split(t: &Transaction<'_>) -> Result<(), Trouble> {
    let hosts: Vec<Value> = codec::all(t, "a host", "SELECT record FROM hosts", [])?;
    for mut host in hosts {
        let name = host["name"].as_str().unwrap_or_default().to_owned();
        let shown = host.as_object_mut().and_then(|record| record.remove("catalogue"));
        let catalogue: Catalogue = serde_json::from_value(shown.unwrap_or_default()).unwrap_or_default();
        put(t, &catalogue)?;
        host["catalogue_digest"] = catalogue.digest().into();
        // Who set a label was not on record: no token may take away what an operator may have decided.
        let keys = host["labels"].as_object().map(|labels| labels.keys().cloned().collect::<Vec<_>>());
        host["operator_labels"] = keys.unwrap_or_default().into();
        t.prepare_cached("UPDATE hosts SET record = ?2, catalogue = ?3 WHERE name = ?1")?
            .execute(params![name, host.to_string(), catalogue.digest()])?;
    }
    Ok(())
}
