//! A journal that cannot be read: the host is dirty until a person answers for it, and stays clean from then on.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use agent_levers::JournalStore;
use agent_levers::fake::FakeHost;
use agent_view::HostView;
use agent_warden::{Command, Rescued, Rescuer, rescue};
use proto_model::id::InjectionId;
use proto_model::injection::{Cleanliness, EndedBy, UndoAnswer};
use serde_json::json;

use crate::support::Bench;

const RUBBISH: &str = "no journal at all";
const FOLDERS: [&str; 2] = ["journal", "mirror"];

/// The next process on a host where this kind of fault acts and neither copy of its journal can be read.
fn damaged(kind: &str) -> (Bench, InjectionId) {
    let mut bench = Bench::new();
    let order = bench.order(kind, json!({}));
    let id = order.injection.clone();
    bench.start(order);
    for folder in FOLDERS {
        fs::write(file(&bench, folder, &id), RUBBISH).unwrap();
    }
    (bench.crash(), id)
}

fn file(bench: &Bench, folder: &str, id: &InjectionId) -> PathBuf {
    bench.dir.path().join(folder).join(format!("{id}.journal"))
}

fn accept(bench: &mut Bench) {
    bench.warden.command(Command::Accept {
        by: "ann".into(),
        reason: "the host was looked after".into(),
    });
}

fn rescued(bench: &Bench) -> Rescued {
    let store = JournalStore::open(&bench.dir.path().join("journal"), &bench.dir.path().join("mirror")).unwrap();
    let rescuer = Rescuer {
        ended_by: EndedBy::Rescue,
        name: "rescue",
        patience: Duration::ZERO,
    };
    rescue(&store, &mut FakeHost::clone(&bench.host), &*bench.host, rescuer).unwrap()
}

#[test]
fn an_accepted_journal_is_met_by_no_later_start_and_by_no_rescue() {
    let (mut bench, id) = damaged("test.hold");
    assert_eq!(bench.status().cleanliness, Cleanliness::Dirty);
    assert_eq!(bench.refused(bench.order("test.hold", json!({}))).code, "dirty");
    let before = rescued(&bench);
    let (left, why) = &before.left[0];
    assert!(!before.is_clean() && left == &id);
    let files = FOLDERS.map(|folder| file(&bench, folder, &id).display().to_string());
    assert!(why.contains("fracas hosts accept HOST --reason"), "{why}");
    assert!(files.iter().all(|file| why.contains(file)), "{why}");
    bench.host.turn_knob("calm");
    accept(&mut bench);
    assert_eq!(bench.status().cleanliness, Cleanliness::Clean);
    for folder in FOLDERS {
        let left = fs::read_dir(bench.dir.path().join(folder)).unwrap().count();
        assert_eq!(left, 0, "the last guard runs as long as there is anything in {folder}");
        let kept = file(&bench, &format!("{folder}.accepted"), &id);
        assert_eq!(fs::read_to_string(kept).unwrap(), RUBBISH);
    }
    let mut bench = bench.crash();
    assert_eq!(bench.status().cleanliness, Cleanliness::Clean);
    assert!(rescued(&bench).is_clean());
    bench.hold();
}

#[test]
fn an_order_that_is_repeated_after_its_journal_was_accepted_is_not_carried_out_again() {
    let (mut bench, id) = damaged("test.hold");
    bench.host.turn_knob("calm");
    accept(&mut bench);
    assert_eq!(bench.status().cleanliness, Cleanliness::Clean);
    let mut order = bench.order("test.hold", json!({}));
    order.injection = id.clone();
    bench.start(order);
    assert_eq!(bench.host.knob_now(), "calm");
    assert!(bench.status().active.is_empty());
    assert!(matches!(bench.stop(&id), Some(Ok(UndoAnswer::AlreadyUndone))));
    bench.hold();
}

#[test]
fn what_carries_the_name_of_an_accepted_injection_is_removed() {
    let (mut bench, id) = damaged("test.gated");
    assert_eq!(bench.host.our_traffic().unwrap(), [id]);
    accept(&mut bench);
    assert!(bench.host.our_traffic().unwrap().is_empty());
    assert_eq!(bench.status().cleanliness, Cleanliness::Clean);
}

#[test]
fn a_journal_that_another_process_holds_is_not_accepted() {
    let (mut bench, id) = damaged("test.hold");
    let holder = File::open(file(&bench, "journal", &id)).unwrap();
    holder.lock().unwrap();
    accept(&mut bench);
    assert_eq!(bench.status().cleanliness, Cleanliness::Dirty);
    assert!(file(&bench, "journal", &id).exists());
    drop(holder);
    accept(&mut bench);
    assert_eq!(bench.status().cleanliness, Cleanliness::Clean);
}
