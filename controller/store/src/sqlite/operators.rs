//! Operators' tokens: one row each, replaced whole. No secret is ever written.

use proto_model::id::TokenId;
use proto_model::time::Timestamp;
use rusqlite::{Transaction, params};

use super::transaction::Trouble;
use super::{codec, log};
use crate::fact::{created, no_operator, revoked};
use crate::records::{Actor, OperatorRecord, StoreError};

const WHAT: &str = "an operator's token";

pub(super) fn add(t: &Transaction<'_>, operator: &OperatorRecord, actor: &Actor) -> Result<(), Trouble> {
    if by_id(t, &operator.id)?.is_some() {
        return Err(StoreError::Refused(format!("add operator token {}: the id is taken", operator.id)).into());
    }
    t.prepare_cached("INSERT INTO operators (id, record) VALUES (?1, ?2)")?
        .execute(params![operator.id.as_str(), codec::write(WHAT, operator)?])?;
    log::fleet(t, &created(operator), actor, operator.created_at)
}

pub(super) fn all(t: &Transaction<'_>) -> Result<Vec<OperatorRecord>, Trouble> {
    codec::all(t, WHAT, "SELECT record FROM operators ORDER BY made", [])
}

pub(super) fn revoke(t: &Transaction<'_>, id: &TokenId, actor: &Actor, now: Timestamp) -> Result<OperatorRecord, Trouble> {
    let mut operator = by_id(t, id)?.ok_or_else(|| no_operator(id))?;
    if !std::mem::replace(&mut operator.revoked, true) {
        replace(t, &operator)?;
        log::fleet(t, &revoked(&operator), actor, now)?;
    }
    Ok(operator)
}

pub(super) fn used(t: &Transaction<'_>, id: &TokenId, at: Timestamp) -> Result<(), Trouble> {
    let Some(mut operator) = by_id(t, id)? else { return Ok(()) };
    operator.last_used = Some(at);
    replace(t, &operator)
}

fn by_id(t: &Transaction<'_>, id: &TokenId) -> Result<Option<OperatorRecord>, Trouble> {
    codec::one(t, WHAT, "SELECT record FROM operators WHERE id = ?1", [id.as_str()])
}

fn replace(t: &Transaction<'_>, operator: &OperatorRecord) -> Result<(), Trouble> {
    t.prepare_cached("UPDATE operators SET record = ?2 WHERE id = ?1")?
        .execute(params![operator.id.as_str(), codec::write(WHAT, operator)?])?;
    Ok(())
}
