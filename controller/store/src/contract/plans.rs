//! The part of the contract that plans are held to: kept by their digest, and forgotten only when no run used them.

use proto_model::id::{PlanDigest, RunId};
use proto_model::plan::PlanView;
use proto_model::time::Timestamp;

use super::given::{Make, a_plan, accepted, judged};

pub(super) const CHECKS: &[fn(Make<'_>)] = &[plans_are_kept_by_digest, plans_that_no_run_used_are_forgotten];

fn made(name: &str, at: i64) -> PlanView {
    let plan = a_plan(name);
    PlanView {
        digest: plan.digest(),
        created_at: Timestamp(at),
        expires_at: Timestamp(at + 5),
        plan,
        answers: Vec::new(),
        accepted: true,
    }
}

fn plans_are_kept_by_digest(make: Make<'_>) {
    let mut store = make();
    let mut view = made("one", 5);
    assert_eq!(store.plan(&view.digest).unwrap(), None);
    store.save_plan(&view).unwrap();
    assert_eq!(store.plan(&view.digest).unwrap().as_ref(), Some(&view));
    view.expires_at = Timestamp(20);
    store.save_plan(&view).unwrap();
    assert_eq!(store.plan(&view.digest).unwrap().as_ref(), Some(&view));
    assert_eq!(store.plan(&PlanDigest("sha256:0".into())).unwrap(), None);
}

fn plans_that_no_run_used_are_forgotten(make: Make<'_>) {
    let mut store = make();
    assert_eq!(store.forget_plans(Timestamp(1_000)).unwrap(), 0);
    let (used, old, young) = (made("used", 1), made("old", 99), made("young", 100));
    for plan in [&used, &old, &young] {
        store.save_plan(plan).unwrap();
    }
    // The run of `accepted` is of the plan with its name.
    store.append(&RunId::generate(), vec![accepted("used", None), judged()]).unwrap();
    assert_eq!(store.forget_plans(Timestamp(100)).unwrap(), 1);
    let kept = |store: &mut dyn crate::Store, plan: &PlanView| store.plan(&plan.digest).unwrap().is_some();
    assert_eq!([&used, &old, &young].map(|plan| kept(store.as_mut(), plan)), [true, false, true]);
    // Made again it is young again, and a used one stays used.
    store.save_plan(&made("old", 200)).unwrap();
    store.save_plan(&made("used", 101)).unwrap();
    assert_eq!(store.forget_plans(Timestamp(150)).unwrap(), 1);
    assert_eq!([&used, &old, &young].map(|plan| kept(store.as_mut(), plan)), [true, true, false]);
}
