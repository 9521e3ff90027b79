//! `disk.fill` on real file systems: small images in a mount namespace of each test's own. Needs root; the machine's disks are not filled.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use agent_faults::{AnyFault, Protection, Scene, WorkControl, find};
use agent_journal::Opened;
use agent_levers::{Exemptions, Journal, JournalStore, Levers, LinuxOps, PullContext, RewindReport, prove, rewind};
use agent_view::{HostView, LinuxView, Process, Volume};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use proto_model::catalogue::FaultKind;
use proto_model::id::InjectionId;
use proto_model::injection::{CleanProof, Cleanliness, EffectState, EndedBy, Observation};
use proto_model::peer::Network;
use serde_json::{Value, json};
use tempfile::TempDir;

const MEBI: u64 = 1 << 20;

struct Nothing;

impl Protection for Nothing {
    fn process(&self, _process: &Process) -> Option<String> {
        None
    }
    fn networks(&self) -> Result<Vec<Network>, String> {
        Ok(Vec::new())
    }
    fn interface(&self, _name: &str) -> Option<String> {
        None
    }
    fn port(&self, _port: u16) -> Option<String> {
        None
    }
    fn path(&self, _path: &Path, _volume: &Volume) -> Option<String> {
        None
    }
    fn memory_reserve(&self) -> u64 {
        0
    }
    fn disk_reserve(&self, _volume: &Volume) -> u64 {
        0
    }
}

fn fill() -> &'static dyn AnyFault {
    find(&FaultKind::parse("disk.fill").unwrap()).unwrap()
}

fn scene(view: &LinuxView) -> Scene<'_> {
    Scene {
        view,
        protection: &Nothing,
        seed: 1,
        duration_ms: 60_000,
    }
}

/// The first command that fails fails all of it.
fn shell(script: &str) {
    let made = Command::new("/bin/sh").args(["-ec", script]).output().unwrap();
    assert!(made.status.success(), "{script}: {}", String::from_utf8_lossy(&made.stderr));
}

/// A small disk at `disk`, and journals elsewhere.
struct Ground {
    folder: TempDir,
    below: PathBuf,
    view: LinuxView,
    journal_store: JournalStore,
}

impl Ground {
    fn new(file_system: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace of this test's own");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).expect("mounts are private");
        let folder = TempDir::new().unwrap();
        let below = PathBuf::from(format!("fill-test-{}", InjectionId::generate()));
        let ground = Self {
            view: LinuxView::with_group_root(&below),
            journal_store: JournalStore::open(&folder.path().join("journal"), &folder.path().join("mirror")).unwrap(),
            folder,
            below,
        };
        let (image, disk) = (ground.image(), ground.disk());
        std::fs::create_dir(&disk).unwrap();
        let (image, disk) = (image.display(), disk.display());
        let (size, options) = match file_system {
            "btrfs" => ("256M", "-q -m single"),
            _ => ("64M", "-q -m 0 -E nodiscard"),
        };
        shell(&format!(
            "truncate -s {size} {image}; mkfs.{file_system} {options} {image}; mount -o loop {image} {disk}"
        ));
        ground
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Hands whose workers only wait.
    fn hands(&self) -> LinuxOps {
        LinuxOps::with_group_root("/bin/grep".into(), &self.below)
    }

    fn volume(&self) -> Volume {
        self.view.volume(&self.disk()).unwrap().unwrap()
    }

    fn holds(&self, amount: &str) -> Held<'_> {
        self.fills(&self.disk(), amount)
    }

    fn fills(&self, folder: &Path, amount: &str) -> Held<'_> {
        self.fills_as(&json!({"path": folder, "amount": amount}))
    }

    fn fills_as(&self, params: &Value) -> Held<'_> {
        let id = InjectionId::generate();
        let params = fill().check(params).unwrap();
        let opened = Opened {
            injection: id.clone(),
            run: "run".to_owned(),
            kind: "disk.fill".to_owned(),
            params: params.clone(),
            boot_id: self.view.boot_id(),
            opened_boot_ms: self.view.boot_ms(),
            deadline_boot_ms: self.view.boot_ms() + 60_000,
            plan_digest: String::new(),
        };
        let mut journal = self.journal_store.create(opened).unwrap();
        let context = PullContext {
            injection: id.clone(),
            kind: "disk.fill".to_owned(),
            seed: 1,
            deadline_boot_ms: self.view.boot_ms() + 60_000,
            gate_ms: 0,
            exemptions: Exemptions::default(),
        };
        let mut hands = self.hands();
        let mut levers = Levers::new(&mut journal, &mut hands, &self.view, context);
        let effect = fill().apply(&params, &scene(&self.view), &mut levers).unwrap();
        journal.applied(&effect).unwrap();
        Held {
            ground: self,
            id,
            journal,
            hands,
            effect,
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.disk()).status();
        for hierarchy in self.view.hierarchies().used() {
            let _ = std::fs::remove_dir(&hierarchy.root);
        }
    }
}

struct Held<'a> {
    ground: &'a Ground,
    id: InjectionId,
    journal: Journal,
    hands: LinuxOps,
    effect: Value,
}

impl Held<'_> {
    fn observed(&self) -> Observation {
        let view = &self.ground.view;
        let (_, first) = fill().observe(&self.effect, view, None).unwrap();
        fill().observe(&self.effect, view, Some(&first)).unwrap().0.unwrap()
    }

    /// Ended and undone, with proof.
    fn ends(mut self) {
        let rewound = self.rewound();
        assert!(rewound.is_complete() && rewound.drift.is_empty(), "{rewound:?}");
        self.is_clean();
    }

    fn rewound(&mut self) -> RewindReport {
        self.journal.ending(EndedBy::Stop).unwrap();
        rewind(&mut self.journal, &mut self.hands, &self.ground.view)
    }

    fn proof(&self) -> CleanProof {
        prove(&[self.journal.history()], &[], &self.ground.view)
    }

    fn is_clean(&self) {
        let proof = self.proof();
        assert!(!proof.owned_left.iter().any(|left| left.contains(self.id.as_str())), "{proof:?}");
        assert!(proof.result == Cleanliness::Clean || !proof.owned_left.is_empty(), "{proof:?}");
    }
}

/// Mount namespaces belong to a thread, so each test has one of its own.
fn alone(test: impl FnOnce() + Send + 'static) {
    if tests_notes::lacks_root("to mount a small disk") {
        return;
    }
    std::thread::spawn(test).join().unwrap();
}

#[test]
fn two_files_in_one_folder_add_up_and_end_on_their_own() {
    alone(|| {
        let ground = Ground::new("ext4");
        let free = || ground.volume().available / MEBI;
        let before = free();
        let (one, two) = (ground.holds("10MiB"), ground.holds("20MiB"));
        assert_eq!(free(), before - 30);
        assert_eq!(
            (one.observed().state, two.observed().state),
            (EffectState::Confirmed, EffectState::Confirmed)
        );
        two.ends();
        assert_eq!(free(), before - 10);
        assert_eq!(fill().alive(&one.effect, &ground.view), Ok(()));
        one.ends();
        assert_eq!(free(), before);
    });
}

#[test]
fn where_nothing_can_be_allocated_it_is_written() {
    alone(|| {
        let ground = Ground::new("ext2");
        let before = ground.volume().available;
        let held = ground.holds("12MiB");
        assert!(held.effect["worker"].is_object(), "{}", held.effect);
        let stop = Arc::new(AtomicBool::new(false));
        let control = WorkControl::new(held.id.clone(), u64::MAX, stop.clone(), Arc::new(LinuxView::new()));
        let order = json!({"folder": ground.disk(), "bytes": 12 * MEBI, "rate": null, "reserve": 0, "memory_reserve": 0});
        let works = std::thread::spawn(move || fill().work(&order, &control));
        let until = Instant::now() + Duration::from_secs(10);
        while ground.volume().available + 12 * MEBI > before && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        let observation = held.observed();
        stop.store(true, Ordering::Relaxed);
        works.join().unwrap().unwrap();
        assert_eq!(observation.state, EffectState::Confirmed, "{observation:?}");
        held.ends();
        assert_eq!(ground.volume().available, before);
    });
}

#[test]
fn a_file_system_that_counts_late_shows_at_once_what_is_taken_and_given_back() {
    if Command::new("mkfs.btrfs").arg("--version").output().is_err() {
        tests_notes::skip("mkfs.btrfs (btrfs-progs) is required for a file system that counts late");
        return;
    }
    alone(|| {
        let ground = Ground::new("btrfs");
        assert!(ground.view.settle(&ground.disk()));
        let before = ground.volume().available;
        let held = ground.fills_as(&json!({"path": ground.disk(), "amount": "64MiB", "allow": ["cow"]}));
        let observed = held.observed();
        assert_eq!(
            (observed.state, observed.note.as_deref()),
            (EffectState::Confirmed, None),
            "{observed:?}"
        );
        assert!(observed.measured.unwrap() >= 63.0 * MEBI as f64, "{observed:?}");
        assert!(before - ground.volume().available >= 63 * MEBI);
        held.ends();
        assert!(before.abs_diff(ground.volume().available) < 2 * MEBI, "df shows it without waiting");
    });
}

#[test]
fn two_spellings_of_a_volumes_path_are_one_claim() {
    alone(|| {
        let ground = Ground::new("ext4");
        let folder = ground.disk().join("sub");
        std::fs::create_dir(&folder).unwrap();
        let claims = |path: &Path| {
            let params = fill().check(&json!({"path": path, "used": 50})).unwrap();
            fill().claims_here(&params, &ground.view).unwrap()
        };
        let one = claims(&ground.disk());
        assert_eq!(one.len(), 1);
        for other in [ground.disk().join("."), folder] {
            assert_eq!(claims(&other), one, "{}", other.display());
        }
        assert_ne!(claims(Path::new("/")), one);
    });
}

#[test]
fn what_is_read_only_in_the_agents_own_namespace_is_not_called_so_on_the_host() {
    alone(|| {
        let ground = Ground::new("ext4");
        let (disk, own) = (ground.disk(), ground.folder.path().join("own"));
        let (disk, own) = (disk.display(), own.display());
        // As systemd does it for a service.
        shell(&format!("mkdir {own}; mount -o bind,ro {own} {own}; mount -o remount,ro {disk}"));
        let refusal = |path: String| {
            let params = fill().check(&json!({"path": path, "amount": "1MiB"})).unwrap();
            fill().preflight(&params, &scene(&ground.view)).unwrap_err().message
        };
        let (of_own, of_disk) = (refusal(own.to_string()), refusal(disk.to_string()));
        shell(&format!("umount {own}"));
        assert!(of_own.contains("read-only for this agent, not for the host"), "{of_own}");
        assert!(of_disk.ends_with("is mounted read-only"), "{of_disk}");
    });
}

#[test]
fn a_disk_that_is_unmounted_is_not_called_empty_until_it_is_back() {
    alone(|| {
        let ground = Ground::new("ext4");
        let before = ground.volume().available;
        let mut held = ground.holds("10MiB");
        let (image, disk, device) = (ground.image(), ground.disk(), ground.volume().device);
        assert!(Command::new("umount").arg(&disk).status().unwrap().success());
        assert!(fill().alive(&held.effect, &ground.view).is_err());
        held.journal.ending(EndedBy::EndedEarly).unwrap();
        let rewound = rewind(&mut held.journal, &mut held.hands, &ground.view);
        assert_eq!(rewound.failures.len(), 2, "{rewound:?}");
        // Back from another loop device, as a disk that was plugged in again.
        shell(&format!(
            "one=$(losetup --find --show {image}); two=$(losetup --find --show {image}); \
             back=$one; [ $((0x$(stat -c %T $one))) != {minor} ] || back=$two; mount $back {disk}; losetup -d $one $two",
            image = image.display(),
            disk = disk.display(),
            minor = rustix::fs::minor(device),
        ));
        assert_ne!(ground.volume().device, device);
        held.ends();
        assert_eq!(ground.volume().available, before);
    });
}

/// Fills, lets somebody do something to the file at this path, ends, and is clean; what is told of it.
fn ends_although(ground: &Ground, folder: &Path, meddles: impl FnOnce(&Path)) -> String {
    let mut held = ground.fills(folder, "10MiB");
    let ours = std::fs::canonicalize(folder).unwrap().join(format!(".fracas-{}", held.id));
    meddles(&ours);
    let dirty = held.proof();
    assert!(dirty.owned_left.iter().any(|left| left.contains(held.id.as_str())), "{dirty:?}");
    let rewound = held.rewound();
    assert!(rewound.is_complete(), "{rewound:?}");
    held.is_clean();
    rewound.drift.join(", ")
}

#[test]
fn a_file_that_somebody_moved_is_found_and_its_space_is_free_again() {
    alone(|| {
        let ground = Ground::new("ext4");
        let disk = ground.disk();
        std::fs::create_dir_all(disk.join("a/b")).unwrap();
        let before = ground.volume().available;
        let elsewhere = disk.join("a/b/elsewhere");
        let told = ends_although(&ground, &disk, |ours| std::fs::rename(ours, &elsewhere).unwrap());
        assert!(told.contains("a/b/elsewhere"), "{told}");
        assert!(!elsewhere.exists());
        let kept = disk.join("kept");
        let told = ends_although(&ground, &disk.join("a"), |ours| {
            std::fs::rename(disk.join("a"), &kept).unwrap();
            std::fs::create_dir(disk.join("a")).unwrap();
            std::fs::write(ours, "data").unwrap();
        });
        assert!(told.contains("kept/.fracas-"), "{told}");
        let replacements: Vec<_> = std::fs::read_dir(disk.join("a")).unwrap().flatten().collect();
        assert_eq!(std::fs::read_to_string(replacements[0].path()).unwrap(), "data");
        std::fs::remove_dir_all(disk.join("a")).unwrap();
        // But for what folders take.
        assert!(ground.volume().available.abs_diff(before) < 64 << 10);
    });
}

#[test]
fn a_folder_that_was_swapped_for_a_link_to_another_volume_hides_nothing() {
    alone(|| {
        let ground = Ground::new("ext4");
        let (disk, outside) = (ground.disk(), ground.folder.path().join("outside"));
        for folder in [&disk.join("a"), &outside] {
            std::fs::create_dir(folder).unwrap();
        }
        let (before, mut precious) = (ground.volume().available, PathBuf::new());
        let told = ends_although(&ground, &disk.join("a"), |ours| {
            precious = outside.join(ours.file_name().unwrap());
            std::fs::write(&precious, "data").unwrap();
            std::fs::rename(disk.join("a"), disk.join("b")).unwrap();
            std::os::unix::fs::symlink(&outside, disk.join("a")).unwrap();
        });
        assert!(told.contains("b/.fracas-"), "{told}");
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "data");
        assert!(ground.volume().available.abs_diff(before) < 64 << 10);
    });
}

#[test]
fn a_file_that_was_removed_but_is_held_open_gives_its_space_back() {
    alone(|| {
        let ground = Ground::new("ext4");
        let before = ground.volume().available;
        let mut open = None;
        let told = ends_although(&ground, &ground.disk(), |ours| {
            open = std::fs::File::open(ours).ok();
            std::fs::remove_file(ours).unwrap();
        });
        assert!(told.contains("held open"), "{told}");
        assert_eq!(open.unwrap().metadata().unwrap().len(), 0);
        assert_eq!(ground.volume().available, before);
    });
}

#[test]
fn the_journal_alone_leads_to_a_moved_file_also_on_a_disk_that_was_mounted_anew() {
    alone(|| {
        let ground = Ground::new("ext4");
        let disk = ground.disk();
        std::fs::create_dir_all(disk.join("a/b")).unwrap();
        let before = ground.volume().available;
        let held = ground.fills(&disk, "10MiB");
        let id = held.id.clone();
        // As after a kill: nobody ended it, and nothing but the journal is left.
        drop(held);
        std::fs::rename(disk.join(format!(".fracas-{id}")), disk.join("a/b/elsewhere")).unwrap();
        assert!(Command::new("umount").arg(&disk).status().unwrap().success());
        let mounted = Command::new("mount").args(["-o", "loop"]).args([&ground.image(), &disk]).status();
        assert!(mounted.unwrap().success());
        assert!(ground.volume().available + 9 * MEBI < before);
        let mut held = Held {
            ground: &ground,
            journal: ground.journal_store.lock(&id, Duration::from_secs(1)).unwrap(),
            hands: ground.hands(),
            effect: Value::Null,
            id,
        };
        let rewound = held.rewound();
        assert!(
            rewound.is_complete() && rewound.drift.join(" ").contains("a/b/elsewhere"),
            "{rewound:?}"
        );
        held.is_clean();
        assert!(!disk.join("a/b/elsewhere").exists());
        assert_eq!(ground.volume().available, before);
    });
}

#[test]
fn the_operator_may_name_a_link_to_a_folder() {
    alone(|| {
        let ground = Ground::new("ext4");
        let (before, link) = (ground.volume().available, ground.folder.path().join("link"));
        std::os::unix::fs::symlink(ground.disk(), &link).unwrap();
        let held = ground.fills(&link, "10MiB");
        assert!(ground.disk().join(format!(".fracas-{}", held.id)).exists());
        held.ends();
        assert_eq!(ground.volume().available, before);
    });
}

#[test]
fn a_worker_takes_no_memory_beyond_the_reserve_for_a_volume_that_is_memory() {
    alone(|| {
        let ground = Ground::new("ext4");
        let memory = ground.folder.path().join("memory");
        std::fs::create_dir(&memory).unwrap();
        mount(Some("none"), &memory, Some("tmpfs"), MsFlags::empty(), Some("size=32m")).unwrap();
        let taken = |reserve: u64| {
            let id = InjectionId::generate();
            let ours = memory.join(format!(".fracas-{id}"));
            std::fs::File::create_new(&ours).unwrap();
            let stop = Arc::new(AtomicBool::new(false));
            let control = WorkControl::new(id, u64::MAX, stop.clone(), Arc::new(LinuxView::new()));
            let order = json!({"folder": memory, "bytes": 8 * MEBI, "rate": null, "reserve": 0, "memory_reserve": reserve});
            let works = std::thread::spawn(move || fill().work(&order, &control));
            let until = Instant::now() + Duration::from_secs(1);
            while ours.metadata().unwrap().len() < 8 * MEBI && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, Ordering::Relaxed);
            works.join().unwrap().unwrap();
            ours.metadata().unwrap().len()
        };
        assert_eq!(taken(0), 8 * MEBI);
        assert_eq!(taken(ground.view.memory().unwrap().total), 0);
        nix::mount::umount(&memory).unwrap();
    });
}
