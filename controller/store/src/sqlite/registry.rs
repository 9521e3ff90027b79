//! Registries beside the logs: hosts, tokens and the latch, each row replaced whole. No secret is ever written.

use proto_model::event::FleetEventBody;
use proto_model::halt::HaltState;
use proto_model::id::{HostName, TokenId};
use proto_model::time::Timestamp;
use rusqlite::{Transaction, params};

use super::transaction::Trouble;
use super::{catalogues, codec, log};
use crate::fact::halt_moves;
use crate::records::{Actor, HostRecord, StoreError, TokenRecord};
use crate::secret::spend;

pub(super) fn hosts(t: &Transaction<'_>) -> Result<Vec<HostRecord>, Trouble> {
    codec::all(t, "a host", "SELECT record FROM hosts ORDER BY name", [])
}

pub(super) fn host(t: &Transaction<'_>, name: &HostName) -> Result<Option<HostRecord>, Trouble> {
    codec::one(t, "a host", "SELECT record FROM hosts WHERE name = ?1", [name.as_str()])
}

pub(super) fn put_host(t: &Transaction<'_>, host: &HostRecord) -> Result<(), Trouble> {
    let before = catalogues::of_host(t, &host.name)?;
    t.prepare_cached("INSERT OR REPLACE INTO hosts (name, record, catalogue) VALUES (?1, ?2, ?3)")?
        .execute(params![host.name.as_str(), codec::write("a host", host)?, host.catalogue_digest])?;
    match before.filter(|digest| digest != &host.catalogue_digest) {
        Some(digest) => catalogues::forget_unused(t, &digest),
        None => Ok(()),
    }
}

pub(super) fn add_token(t: &Transaction<'_>, token: &TokenRecord, actor: &Actor) -> Result<(), Trouble> {
    if token_by_id(t, &token.id)?.is_some() {
        return Err(StoreError::Refused(format!("add token {}: the id is taken", token.id)).into());
    }
    t.prepare_cached("INSERT INTO tokens (id, record) VALUES (?1, ?2)")?
        .execute(params![token.id.as_str(), codec::write("a token", token)?])?;
    let event = FleetEventBody::TokenCreated {
        id: token.id.to_string(),
        uses: token.uses,
        expires_at: token.expires_at,
    };
    log::fleet(t, &event, actor, token.created_at)
}

pub(super) fn tokens(t: &Transaction<'_>) -> Result<Vec<TokenRecord>, Trouble> {
    codec::all(t, "a token", "SELECT record FROM tokens ORDER BY made", [])
}

pub(super) fn spend_token(t: &Transaction<'_>, id: &TokenId, secret: &str, now: Timestamp) -> Result<TokenRecord, Trouble> {
    let spent = spend(token_by_id(t, id)?, secret, now)?;
    replace_token(t, &spent)?;
    Ok(spent)
}

pub(super) fn revoke_token(t: &Transaction<'_>, id: &TokenId, actor: &Actor, now: Timestamp) -> Result<TokenRecord, Trouble> {
    let mut token = token_by_id(t, id)?.ok_or_else(|| StoreError::NotFound {
        what: "token",
        name: id.to_string(),
    })?;
    if !std::mem::replace(&mut token.revoked, true) {
        replace_token(t, &token)?;
        log::fleet(t, &FleetEventBody::TokenRevoked { id: id.to_string() }, actor, now)?;
    }
    Ok(token)
}

fn token_by_id(t: &Transaction<'_>, id: &TokenId) -> Result<Option<TokenRecord>, Trouble> {
    codec::one(t, "a token", "SELECT record FROM tokens WHERE id = ?1", [id.as_str()])
}

fn replace_token(t: &Transaction<'_>, token: &TokenRecord) -> Result<(), Trouble> {
    t.prepare_cached("UPDATE tokens SET record = ?2 WHERE id = ?1")?
        .execute(params![token.id.as_str(), codec::write("a token", token)?])?;
    Ok(())
}

pub(super) fn halt(t: &Transaction<'_>) -> Result<HaltState, Trouble> {
    let stored = codec::one(t, "the halt", "SELECT halt FROM latch WHERE only = 1", [])?;
    Ok(stored.unwrap_or_else(HaltState::released))
}

pub(super) fn set_halt(t: &Transaction<'_>, new: &HaltState, actor: &Actor) -> Result<(), Trouble> {
    if !halt_moves(&halt(t)?, new)? {
        return Ok(());
    }
    t.prepare_cached("INSERT OR REPLACE INTO latch (only, halt) VALUES (1, ?1)")?
        .execute([codec::write("the halt", new)?])?;
    let event = FleetEventBody::HaltChanged {
        epoch: new.epoch,
        engaged: new.engaged,
        reason: new.reason.clone(),
    };
    log::fleet(t, &event, actor, new.at)
}
