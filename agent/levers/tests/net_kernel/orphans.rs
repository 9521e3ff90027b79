//! Rules that carry our name and belong to no injection, as of a saved ruleset that was loaded again.

use std::path::Path;

use agent_levers::{LinuxOps, sweep};
use agent_view::LinuxView;

use super::*;

#[test]
fn rules_of_no_injection_are_swept_and_those_of_an_open_one_act_on() {
    run(|world| {
        let (server, other) = (world.serve_far(PEER4, 0), world.serve_far(OTHER4, 0));
        let (open, stray) = (add(&cut(&[OTHER4])), add(&cut(&[PEER4])));
        assert!(stalls(connect(server)) && stalls(connect(other)));
        // Groups are looked for where none are: others on this machine may have some.
        let nowhere = Path::new("no-such-group");
        let mut hands = LinuxOps::with_group_root("/nonexistent".into(), nowhere);
        let swept = sweep(&mut hands, &LinuxView::with_group_root(nowhere), &|| vec![open.clone()]);
        let rules = format!("network rules of {stray}");
        assert!(swept.removed.contains(&rules) && swept.failed.is_empty(), "{swept:?}");
        connect(server).unwrap();
        assert!(stalls(connect(other)), "the open injection still acts");
        assert_eq!(our_traffic().unwrap(), std::slice::from_ref(&open));
        assert!(remove(&open).unwrap() && !our_table().unwrap());
    });
}
