//! What is told of a kernel by its symbols, its modules and what is hidden of them.

use super::*;

fn kernel(symbols: Option<&'static BTreeSet<&'static str>>, modules: Option<&str>, may_load: bool) -> Kernel {
    Kernel {
        release: "0.0.0-none".to_owned(),
        symbols,
        hidden: false,
        modules: modules.map(str::to_owned),
        may_load,
    }
}

/// A module that no kernel of ours has.
const NONE: Part = part("fracas_no_such", "fracas_no_such_");

#[test]
fn what_is_neither_seen_nor_ruled_out_is_unknown() {
    static NOTHING: BTreeSet<&str> = BTreeSet::new();
    assert!(matches!(of_kernel(&NONE, &kernel(None, None, true)), Presence::Unknown { .. }));
    assert!(matches!(
        of_kernel(&NONE, &kernel(Some(&NOTHING), None, true)),
        Presence::Absent { .. }
    ));
    assert!(matches!(
        of_kernel(&NONE, &kernel(None, Some("kernel/a.ko:"), true)),
        Presence::Absent { .. }
    ));
    let hidden = Kernel {
        hidden: true,
        ..kernel(Some(&NOTHING), None, true)
    };
    assert!(matches!(of_kernel(&NONE, &hidden), Presence::Unknown { why } if why.contains("ProtectKernelModules=no")));
    let listed = "kernel/net/fracas-no-such.ko.xz: kernel/a.ko\n";
    assert_eq!(of_kernel(&NONE, &kernel(Some(&NOTHING), Some(listed), true)), Presence::Loadable);
    assert!(
        matches!(of_kernel(&NONE, &kernel(None, Some(listed), false)), Presence::Absent { why, .. } if why.contains("modules_disabled"))
    );
}

#[test]
fn a_symbol_or_a_line_of_a_list_is_found_and_nothing_near_it() {
    let list = "0000000000000000 t netem_enqueue\n0000000000000000 T some_ifb_xmit\n0000000000000000 t x [nf_tables]\n";
    let found = symbols_in(list.as_bytes()).unwrap();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["netem_"]);
    assert!(symbols_in(&b""[..]).is_none(), "an empty list says nothing");
    assert!(lists("kernel/net/sched/sch_netem.ko.zst: a\n", "sch_netem") && lists("a/xt_NFQUEUE.ko", "xt_NFQUEUE"));
    assert!(!lists("kernel/b.ko: kernel/sch_netem.ko", "sch_netem") && !lists("a/sch_netem2.ko:", "sch_netem"));
}

#[test]
fn the_worst_of_several_needs_is_told() {
    let all = [Presence::Loadable, Presence::unknown("x"), Presence::Present];
    assert_eq!(Presence::worst(all.into_iter()), Presence::unknown("x"));
    assert_eq!(
        Presence::worst([Presence::unknown("x"), Presence::absent("y", None)].into_iter()),
        Presence::absent("y", None)
    );
}

#[test]
fn of_ways_of_which_one_is_enough_the_best_is_told() {
    let ways = || [Presence::absent("x", None), Presence::Loadable, Presence::absent("y", None)].into_iter();
    assert_eq!(Presence::best(ways()), Presence::Loadable);
    assert_eq!(
        Presence::best(ways().filter(|way| *way != Presence::Loadable)),
        Presence::absent("x", None)
    );
}

#[test]
fn this_kernel_agrees_with_what_it_lets_us_read() {
    let hierarchies = Hierarchies::detect(Path::new("")).unwrap();
    for feature in Feature::ALL {
        println!("{}: {:?}", feature.name(), presence(feature, &hierarchies));
    }
    // Who can read our packet table, or knows that there is none, has nf_tables.
    if crate::net::kernel_has_tables() == Some(true) {
        let seen = presence(Feature::PacketRules, &hierarchies);
        assert!(matches!(seen, Presence::Present | Presence::Unknown { .. }), "{seen:?}");
    }
}
