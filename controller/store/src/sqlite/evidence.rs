//! Services and publications: a service's row is replaced whole, a publication is only ever added. Each has its line in the fleet log.

use proto_model::event::FleetEventBody;
use proto_model::evidence::Publication;
use proto_model::service::ServiceRecord;
use proto_model::time::Timestamp;
use rusqlite::{Transaction, params};

use super::transaction::Trouble;
use super::{codec, log};
use crate::records::{Actor, no_service};

pub(super) fn put_service(t: &Transaction<'_>, service: &ServiceRecord, actor: &Actor) -> Result<(), Trouble> {
    t.prepare_cached("INSERT OR REPLACE INTO services (name, record) VALUES (?1, ?2)")?
        .execute(params![service.name, codec::write("a service", service)?])?;
    let event = FleetEventBody::ServiceApplied {
        service: service.name.clone(),
        digest: service.digest.clone(),
    };
    log::fleet(t, &event, actor, service.applied_at)
}

pub(super) fn services(t: &Transaction<'_>) -> Result<Vec<ServiceRecord>, Trouble> {
    codec::all(t, "a service", "SELECT record FROM services ORDER BY name", [])
}

pub(super) fn remove_service(t: &Transaction<'_>, name: &str, actor: &Actor, at: Timestamp) -> Result<(), Trouble> {
    let removed = t.prepare_cached("DELETE FROM services WHERE name = ?1")?.execute([name])?;
    if removed == 0 {
        return Err(no_service(name).into());
    }
    log::fleet(t, &FleetEventBody::ServiceRemoved { service: name.to_owned() }, actor, at)
}

pub(super) fn add_publication(t: &Transaction<'_>, publication: &Publication, actor: &Actor) -> Result<(), Trouble> {
    t.prepare_cached("INSERT INTO publications (record) VALUES (?1)")?
        .execute([codec::write("a publication", publication)?])?;
    let event = FleetEventBody::Published {
        place: publication.place.clone(),
        digest: publication.digest.clone(),
    };
    log::fleet(t, &event, actor, publication.at)
}

pub(super) fn publications(t: &Transaction<'_>) -> Result<Vec<Publication>, Trouble> {
    codec::all(t, "a publication", "SELECT record FROM publications ORDER BY made", [])
}
