//! What the verbs about one host share: finding it, telling which one is meant, and showing it after it was changed.

use proto_model::host::Host;
use proto_wire::v1::{Document, HostRef};
use serde_json::Value;

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::start::announce;

pub async fn find(client: &Client, host: &str) -> Result<Document, Failure> {
    let request = HostRef { host: host.to_owned() };
    client.call("show the host", ASK, client.hosts().show(request)).await
}

/// Says which context and environment a change of this host concerns; fails when there is no such host.
pub async fn announced(client: &Client, console: &Console, host: &str) -> Result<(), Failure> {
    let (_, host) = read(&find(client, host).await?)?;
    announce(console, client, host.environment());
    Ok(())
}

pub fn read(document: &Document) -> Result<(Value, Host), Failure> {
    let value = documents::value("Host", &document.json)?;
    let host = documents::read("Host", &value)?;
    Ok((value, host))
}

/// A host after it was changed: one row.
pub fn changed(console: &mut Console, document: &Document) -> Result<Host, Failure> {
    let (value, host) = read(document)?;
    console.document(&value, host.name.as_str(), |console| {
        console.list::<Host>(std::slice::from_ref(&document.json))
    })?;
    Ok(host)
}
