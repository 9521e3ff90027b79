//! Nothing in a plan is random: it follows from the wish, the fleet and the seed, and from nothing else.

mod fleet;

use std::collections::BTreeSet;

use controller_planner::{Fleet, plan};
use controller_policy::Policy;
use fleet::{SPOILT, burn, fleet, host};
use proptest::prelude::*;
use proto_model::plan::{FaultStep, Plan};

fn step(plan: &Plan) -> &FaultStep {
    plan.fault_steps().next().unwrap().1
}

fn hosts(step: &FaultStep) -> Vec<&str> {
    step.injections.iter().map(|i| i.host.as_str()).collect()
}

#[test]
fn the_digest_follows_the_targets() {
    let digests: BTreeSet<String> = ["web-1", "web-2", "role=web"]
        .iter()
        .map(|on| {
            let mut plan = plan(&burn(on, None), &fleet(), &Policy::default(), 7).unwrap();
            plan.source.clear();
            plan.digest().0
        })
        .collect();
    assert_eq!(digests.len(), 3);
}

/// A fleet of some size in which some hosts are unfit, and the names of those.
fn some_fleet() -> impl Strategy<Value = (Fleet, BTreeSet<String>)> {
    prop::collection::vec(prop::option::weighted(0.3, 0..SPOILT.len()), 1..20).prop_map(|spoilt| {
        let (mut fleet, mut unfit) = (Fleet::default(), BTreeSet::new());
        for (i, spoil) in spoilt.into_iter().enumerate() {
            let mut host = host(
                &format!("h-{i}"),
                &[("role", "web"), ("env", "staging"), ("zone", ["a", "b", "c"][i % 3])],
                &format!("10.1.0.{i}"),
            );
            if let Some(spoil) = spoil {
                SPOILT[spoil].1(&mut host);
                unfit.insert(host.name.to_string());
            }
            fleet.catalogues.insert(host.catalogue_digest.clone(), fleet::catalogue());
            fleet.hosts.push(host);
        }
        (fleet, unfit)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_plan_depends_on_nothing_but_what_it_is_given(
        (fleet, unfit) in some_fleet(),
        percent in 1_u32..=100,
        seed in any::<u64>(),
        shuffle in any::<prop::sample::Index>(),
    ) {
        let experiment = burn("role=web", Some(&format!("{percent}%")));
        let first = plan(&experiment, &fleet, &Policy::default(), seed);
        let mut other = fleet.clone();
        other.hosts.reverse();
        let turn = shuffle.index(other.hosts.len());
        other.hosts.rotate_left(turn);
        let second = plan(&experiment, &other, &Policy::default(), seed);
        prop_assert_eq!(&first, &second);
        let wanted = (fleet.hosts.len() * percent as usize / 100).max(1);
        let fit = fleet.hosts.len() - unfit.len();
        match first {
            Ok(plan) => {
                let chosen = hosts(step(&plan));
                prop_assert_eq!(chosen.len(), wanted);
                prop_assert!(chosen.iter().all(|name| !unfit.contains(*name)));
                prop_assert_eq!(plan.digest(), second.unwrap().digest());
            }
            Err(refusal) => {
                prop_assert!(wanted > fit, "refused without need: {}", refusal);
                prop_assert_eq!(refusal.error.code, "unhealthy");
                prop_assert_eq!(refusal.error.hosts.len(), unfit.len());
            }
        }
    }

    #[test]
    fn more_picks_keep_the_earlier_choice((fleet, unfit) in some_fleet(), seed in any::<u64>()) {
        let fit = fleet.hosts.len() - unfit.len();
        let mut before: BTreeSet<String> = BTreeSet::new();
        for count in 1..=fit {
            let plan = plan(&burn("role=web", Some(&count.to_string())), &fleet, &Policy::default(), seed).unwrap();
            let now: BTreeSet<String> = hosts(step(&plan)).into_iter().map(str::to_owned).collect();
            prop_assert!(now.is_superset(&before));
            before = now;
        }
    }
}
