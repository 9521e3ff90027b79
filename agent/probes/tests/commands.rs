//! Command probes with real programs in a folder of their own: what is run, as whom, for how long, and what is refused.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_probes::{Commands, HostRules, RunAs, check};
use proto_model::id::HostName;
use proto_model::probe::{ProbeCheck, ProbeRole, ProbeSpec, Prober, Sample, SampleResult, SampledBy, Tolerance, ValueBounds};
use proto_model::time::Timestamp;
use proto_probes::CommandParams;

const TIMEOUT_MS: u64 = 5_000;
/// How long a killed program may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// A directory of programs, unless this is not root: only root's programs are run.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if std::os::unix::fs::MetadataExt::uid(&folder.path().metadata().unwrap()) != 0 {
            tests_notes::skip("root is required, since programs of probes must belong to root");
            return None;
        }
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let bench = Self { folder };
        std::fs::create_dir(bench.programs()).unwrap();
        std::fs::set_permissions(bench.programs(), PermissionsExt::from_mode(0o755)).unwrap();
        Some(bench)
    }

    fn programs(&self) -> PathBuf {
        self.folder.path().join("programs")
    }

    fn program(&self, name: &str, script: &str) -> PathBuf {
        put(&self.programs().join(name), script)
    }

    fn commands(&self) -> Commands {
        Commands::of(self.programs(), Ok(RunAs::Ourselves))
    }
}

fn put(path: &Path, script: &str) -> PathBuf {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    path.to_owned()
}

fn asking(program: &str, args: &[&str]) -> CommandParams {
    CommandParams {
        program: program.to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        exit: 0,
        contains: None,
        bounds: ValueBounds::default(),
    }
}

async fn sample_within(asked: &CommandParams, commands: &Commands, timeout_ms: u64) -> Sample {
    let spec = ProbeSpec {
        name: "p".into(),
        role: ProbeRole::Guard,
        check: ProbeCheck {
            kind: "command".into(),
            params: match serde_json::to_value(asked).unwrap() {
                serde_json::Value::Object(params) => params,
                other => panic!("{other} is no object"),
            },
        },
        from: Prober::Hosts(vec![]),
        every_ms: timeout_ms,
        timeout_ms,
        tolerate: Tolerance::Count(0),
        breaks: 3,
    };
    let rules = HostRules::of(commands.clone(), Vec::new(), Vec::new());
    check(&spec, &rules, &SampledBy::Host(HostName::parse("web").unwrap()), Timestamp(0)).await
}

async fn sample(asked: &CommandParams, commands: &Commands) -> Sample {
    sample_within(asked, commands, TIMEOUT_MS).await
}

#[track_caller]
fn is(sample: &Sample, result: SampleResult, words: &str) {
    let error = sample.error.clone().unwrap_or_default();
    assert!(
        sample.result == result && error.contains(words),
        "wanted {result:?} {words:?}, got {sample:?}"
    );
}

#[tokio::test]
async fn a_program_has_an_ordinary_score_when_memory_runs_out() {
    let Some(bench) = Bench::new() else { return };
    bench.program("score", "sleep 0.3; cat /proc/self/oom_score_adj");
    // As the agent's own differs from that of an ordinary program.
    std::fs::write("/proc/self/oom_score_adj", "300").unwrap();
    let asked = CommandParams {
        bounds: ValueBounds {
            below: Some(1_001.0),
            ..ValueBounds::default()
        },
        ..asking("score", &[])
    };
    assert_eq!(sample(&asked, &bench.commands()).await.value, Some(0.0));
}

#[tokio::test]
async fn exit_codes_texts_and_numbers_decide() {
    let Some(bench) = Bench::new() else { return };
    bench.program("queue", "echo \" $1 \"; exit ${2:-0}");
    let commands = bench.commands();
    is(&sample(&asking("queue", &["7"]), &commands).await, SampleResult::Good, "");
    is(
        &sample(&asking("queue", &["7", "3"]), &commands).await,
        SampleResult::Bad,
        "exit code 3; expected 0",
    );
    let expected = CommandParams {
        exit: 3,
        ..asking("queue", &["7", "3"])
    };
    is(&sample(&expected, &commands).await, SampleResult::Good, "");
    let with = |text: &str, below: f64| CommandParams {
        contains: Some("7".into()),
        bounds: ValueBounds {
            below: Some(below),
            ..ValueBounds::default()
        },
        ..asking("queue", &[text])
    };
    let good = sample(&with("7", 8.0), &commands).await;
    assert_eq!((good.result, good.value), (SampleResult::Good, Some(7.0)));
    is(&sample(&with("7", 7.0), &commands).await, SampleResult::Bad, "7 is not below 7");
    is(&sample(&with("8", 9.0), &commands).await, SampleResult::Bad, "does not contain");
    is(
        &sample(&with("7 jobs", 9.0), &commands).await,
        SampleResult::Missing,
        "not one number",
    );
}

#[tokio::test]
async fn no_shell_reads_the_arguments_and_the_environment_is_fixed() {
    let Some(bench) = Bench::new() else { return };
    bench.program("echo-all", "echo \"$#:$1:$2:$(pwd):$HOME:$CARGO_MANIFEST_DIR:$LC_ALL:$PATH\"");
    let asked = CommandParams {
        contains: Some("2:$(touch /x); rm:*:/:::C:/usr/sbin:/usr/bin:/sbin:/bin".into()),
        ..asking("echo-all", &["$(touch /x); rm", "*"])
    };
    is(&sample(&asked, &bench.commands()).await, SampleResult::Good, "");
}

#[tokio::test]
async fn paths_links_and_strangers_files_are_not_run() {
    let Some(bench) = Bench::new() else { return };
    let outside = put(&bench.folder.path().join("x"), "echo outside");
    symlink(&outside, bench.programs().join("link-out")).unwrap();
    symlink(bench.program("inside", "exit 0"), bench.programs().join("link-in")).unwrap();
    let loose = bench.program("loose", "exit 0");
    std::fs::set_permissions(&loose, PermissionsExt::from_mode(0o757)).unwrap();
    let group = bench.program("group", "exit 0");
    std::fs::set_permissions(&group, PermissionsExt::from_mode(0o775)).unwrap();
    chown(bench.program("strangers", "exit 0"), Some(65_534), None).unwrap();
    let mighty = bench.program("mighty", "exit 0");
    std::fs::set_permissions(&mighty, PermissionsExt::from_mode(0o4755)).unwrap();
    let text = bench.program("text", "exit 0");
    std::fs::set_permissions(&text, PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::create_dir(bench.programs().join("folder")).unwrap();
    let commands = bench.commands();
    for (program, words) in [
        ("../x", "never a path"),
        ("/bin/true", "never a path"),
        ("..", "never a path"),
        ("", "never a path"),
        ("link-out", "is a link"),
        ("link-in", "is a link"),
        ("loose", "may be written by others"),
        ("group", "may be written by others"),
        ("strangers", "does not belong to root"),
        ("mighty", "setuid"),
        ("text", "is not executable"),
        ("folder", "is no file"),
        ("nothing", "No such file"),
    ] {
        is(&sample(&asking(program, &[]), &commands).await, SampleResult::Missing, words);
    }
    is(&sample(&asking("inside", &[]), &commands).await, SampleResult::Good, "");
}

#[tokio::test]
async fn the_directory_must_be_roots_alone_all_the_way_down() {
    let Some(bench) = Bench::new() else { return };
    bench.program("fine", "exit 0");
    let asked = asking("fine", &[]);
    let at = |path: PathBuf| Commands::of(path, Ok(RunAs::Ourselves));
    is(
        &sample(&asked, &at(PathBuf::new())).await,
        SampleResult::Missing,
        "probes.commands in agent.toml is empty",
    );
    is(&sample(&asked, &Commands::none()).await, SampleResult::Missing, "probes.commands");
    is(&sample(&asked, &at("programs".into())).await, SampleResult::Missing, "absolute");
    let link = bench.folder.path().join("link");
    symlink(bench.programs(), &link).unwrap();
    is(&sample(&asked, &at(link)).await, SampleResult::Missing, "a link");
    is(
        &sample(&asked, &at(bench.folder.path().join("gone"))).await,
        SampleResult::Missing,
        "gone",
    );
    std::fs::set_permissions(bench.programs(), PermissionsExt::from_mode(0o1777)).unwrap();
    is(&sample(&asked, &bench.commands()).await, SampleResult::Missing, "changed by others");
    std::fs::set_permissions(bench.programs(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(bench.folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    is(&sample(&asked, &bench.commands()).await, SampleResult::Missing, "changed by others");
    std::fs::set_permissions(bench.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    is(&sample(&asked, &bench.commands()).await, SampleResult::Good, "");
}

#[tokio::test]
async fn a_program_has_the_rights_of_the_policys_user_and_no_more() {
    let Some(bench) = Bench::new() else { return };
    bench.program("who", "echo \"$(id -u) $(id -g) $(id -G)\"");
    let output = std::process::Command::new("id").arg("-u").arg("nobody").output().unwrap();
    let uid = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let output = std::process::Command::new("id").arg("-g").arg("nobody").output().unwrap();
    let gid = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let (user, group) = (uid.parse().unwrap(), gid.parse().unwrap());
    let nobody = Commands::of(bench.programs(), Ok(RunAs::User { uid: user, gid: group }));
    let asked = CommandParams {
        contains: Some(format!("{uid} {gid} {gid}\n")),
        ..asking("who", &[])
    };
    is(&sample(&asked, &nobody).await, SampleResult::Good, "");
    let unknown = Commands::of(bench.programs(), Err("this host has no user \"no-such-user-here\"".to_owned()));
    is(
        &sample(&asked, &unknown).await,
        SampleResult::Missing,
        "no user \"no-such-user-here\"",
    );
}

fn is_running(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn gone(pid: &str) {
    let since = Instant::now();
    while is_running(pid) {
        assert!(since.elapsed() < GONE_WITHIN, "process {pid} goes on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn after_the_timeout_nothing_of_it_goes_on() {
    let Some(bench) = Bench::new() else { return };
    let pids = bench.folder.path().join("pids");
    bench.program("slow", "sleep 600 & echo $! $$ > \"$1\"; wait");
    let asked = asking("slow", &[pids.to_str().unwrap()]);
    let since = Instant::now();
    is(
        &sample_within(&asked, &bench.commands(), 1_000).await,
        SampleResult::Bad,
        "no answer within 1000 ms",
    );
    assert!(since.elapsed() < Duration::from_secs(5));
    let written = std::fs::read_to_string(&pids).unwrap();
    for pid in written.split_whitespace() {
        gone(pid).await;
    }
    assert_eq!(written.split_whitespace().count(), 2);
}

#[tokio::test]
async fn what_a_program_leaves_behind_does_not_stay() {
    let Some(bench) = Bench::new() else { return };
    let pids = bench.folder.path().join("pids");
    bench.program("forks", "sleep 600 & echo $! > \"$1\"; echo done");
    let asked = CommandParams {
        contains: Some("done".into()),
        ..asking("forks", &[pids.to_str().unwrap()])
    };
    let since = Instant::now();
    is(&sample(&asked, &bench.commands()).await, SampleResult::Good, "");
    assert!(since.elapsed() < Duration::from_secs(4), "its child held us up");
    gone(std::fs::read_to_string(&pids).unwrap().trim()).await;
}

#[tokio::test]
async fn endless_output_is_cut_off_and_is_no_answer() {
    let Some(bench) = Bench::new() else { return };
    let pid = bench.folder.path().join("pid");
    bench.program("yes-for-ever", "echo $$ > \"$1\"; exec yes");
    let asked = asking("yes-for-ever", &[pid.to_str().unwrap()]);
    is(
        &sample(&asked, &bench.commands()).await,
        SampleResult::Missing,
        "wrote more than 64 KiB",
    );
    gone(std::fs::read_to_string(&pid).unwrap().trim()).await;
}
