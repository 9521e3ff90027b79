//! A delay of one group's packets, by the agent's own program: the group's are late, nobody else's are, and both are measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_view::hierarchy::Version;
use agent_view::{HostView, LinuxView};
use proto_model::id::InjectionId;
use serde_json::json;

use crate::world::{self, Far, median, until};
use crate::{Acting, OFF, confirmed};

const PATIENT: Duration = Duration::from_millis(600);

/// A group of the test's own, in which the test's own process makes sockets.
struct Group {
    root: PathBuf,
    path: String,
    /// Somebody must be in it, or it is none.
    member: std::process::Child,
}

impl Group {
    fn make() -> Option<Self> {
        let view = LinuxView::new();
        let Some(unified) = view.hierarchies().used().iter().find(|h| h.version == Version::V2) else {
            tests_notes::skip("no unified hierarchy of groups (cgroup v2) is mounted here");
            return None;
        };
        let (root, path) = (unified.root.clone(), format!("/fracas-test-{}", InjectionId::generate()));
        let folder = root.join(&path[1..]);
        fs::create_dir(&folder).expect("make a group");
        let member = std::process::Command::new("sleep").arg("600").spawn().expect("start its member");
        enter(&folder, member.id());
        Some(Self { root, path, member })
    }

    fn within<T>(&self, action: impl FnOnce() -> T) -> T {
        let own = fs::read_to_string("/proc/self/cgroup").expect("read our groups");
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).expect("our own group");
        enter(&self.root.join(&self.path[1..]), std::process::id());
        let done = action();
        enter(&self.root.join(own), std::process::id());
        done
    }
}

fn enter(folder: &Path, pid: u32) {
    fs::write(folder.join("cgroup.procs"), pid.to_string()).expect("enter a group");
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.member.kill();
        let _ = self.member.wait();
        let folder = self.root.join(&self.path[1..]);
        until("the group is empty", || fs::remove_dir(&folder).is_ok());
    }
}

#[test]
fn a_groups_packets_are_late_in_the_eyes_of_the_group_of_others_and_of_the_probe() {
    world::run(|world| {
        let Some(group) = Group::make() else { return };
        for [slow, ..] in Far::PEERS {
            let far = world.answer();
            let params = json!({"to": [slow], "delay": "100ms", "group": group.path});
            let mut delay = Acting::begin("network.delay", params);
            let asked = Duration::from_millis(100);
            let trips = group.within(|| far.ask(slow, 20, PATIENT));
            assert_eq!(trips.len(), 20, "a delay loses nothing");
            let seen = median(&trips);
            assert!(seen >= asked && seen < asked + OFF, "{slow}: {seen:?}");
            assert!(median(&far.ask(slow, 20, PATIENT)) < OFF, "{slow}: everybody else's");
            let told = confirmed(&mut delay, "delay of a group");
            assert!((told - 100.0).abs() < 7.0, "{told}");
            assert_eq!(delay.alive(), Ok(()));
            delay.end();
            assert!(median(&group.within(|| far.ask(slow, 5, PATIENT))) < OFF, "{slow} is fast again");
        }
        assert!(!LinuxView::new().our_table().unwrap(), "the table is gone");
    });
}
