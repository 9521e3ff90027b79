//! Plans by their digest: kept while a run uses them, forgotten by age otherwise.

use proto_model::id::PlanDigest;
use proto_model::plan::PlanView;
use proto_model::time::Timestamp;
use rusqlite::{Transaction, params};

use super::codec;
use super::transaction::Trouble;

pub(super) fn save_plan(t: &Transaction<'_>, plan: &PlanView) -> Result<(), Trouble> {
    // One that is made again is still used by the runs that used it.
    t.prepare_cached(
        "INSERT INTO plans (digest, created_at, view) VALUES (?1, ?2, ?3) \
        ON CONFLICT (digest) DO UPDATE SET created_at = excluded.created_at, view = excluded.view",
    )?
    .execute(params![plan.digest.0, plan.created_at.0, codec::write("a plan", plan)?])?;
    Ok(())
}

pub(super) fn plan_used(t: &Transaction<'_>, digest: &PlanDigest) -> Result<(), Trouble> {
    t.prepare_cached("UPDATE plans SET used = 1 WHERE digest = ?1")?
        .execute([&digest.0])?;
    Ok(())
}

pub(super) fn forget_plans(t: &Transaction<'_>, made_before: Timestamp) -> Result<usize, Trouble> {
    let mut statement = t.prepare_cached("DELETE FROM plans WHERE used = 0 AND created_at < ?1")?;
    Ok(statement.execute([made_before.0])?)
}

pub(super) fn plan(t: &Transaction<'_>, digest: &PlanDigest) -> Result<Option<PlanView>, Trouble> {
    codec::one(t, "a plan", "SELECT view FROM plans WHERE digest = ?1", [&digest.0])
}
