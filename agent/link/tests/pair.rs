//! Both ends on a real socket pair, with a warden that is played: what is asked arrives, and what is no request ends the session.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use agent_link::{AgentSide, End, ProgramEnd, ProgramOrder, RunProgram, SessionSide, Setup};
use agent_view::Resolver;
use agent_warden::{Command, HaltAnswer, WardenHandle};
use proto_model::catalogue::FaultKind;
use proto_model::id::{InjectionId, PlanDigest, RunId};
use proto_model::injection::{AgentFact, AgentReport, EndedBy, Spent, UndoAnswer, Wish};
use serde_json::json;

const SOON: Duration = Duration::from_secs(10);

fn setup() -> Setup {
    Setup {
        uid: 65_534,
        gid: 65_534,
        identity: "/var/lib/fracas/agent/identity".into(),
        group_root: "/".into(),
        probes_allow: Vec::new(),
        probes_deny: vec![proto_model::peer::Network::parse("10.0.0.0/8").unwrap()],
    }
}

/// The agent's end in a thread of its own, and what its warden is asked.
struct Agent {
    side: AgentSide,
    commands: Receiver<Command>,
    end: JoinHandle<End>,
}

fn agent(stream: UnixStream) -> Agent {
    let side = AgentSide::default();
    let (sender, commands) = sync_channel(4);
    let run: RunProgram = Arc::new(|order, reply| {
        reply(Ok(ProgramEnd {
            code: Some(0),
            output: format!("{} {}", order.program, order.args.join(" ")),
        }));
    });
    let served = side.clone();
    let end = std::thread::spawn(move || served.serve(stream, setup(), &WardenHandle::new(sender), &run));
    Agent { side, commands, end }
}

fn both() -> (Agent, SessionSide) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let agent = agent(ours);
    assert_eq!(SessionSide::setup(&theirs).unwrap(), setup());
    (agent, SessionSide::open(theirs).unwrap())
}

#[test]
fn what_a_session_asks_of_the_warden_arrives_and_is_answered() {
    let (agent, session) = both();
    let wish = Wish {
        fault: FaultKind::parse("cpu.burn").unwrap(),
        params: json!({ "percent": 50, "pin": [0, 1] }),
        duration_ms: 10_000,
        seed: 7,
        beside: vec![0],
        unattended: false,
    };
    let order = agent_warden::StartOrder {
        injection: InjectionId::generate(),
        run: RunId::generate(),
        lease_ms: 15_000,
        plan_digest: PlanDigest("sha256:0".to_owned()),
        wish: wish.clone(),
    };
    // A start is answered when it is handed on.
    session.warden.start(order.clone()).unwrap();
    let Ok(Command::Start(arrived, _)) = agent.commands.recv_timeout(SOON) else {
        panic!("a start")
    };
    assert_eq!(arrived, order);

    let warden = std::thread::spawn(move || {
        let mut asked = Vec::new();
        while let Ok(command) = agent.commands.recv_timeout(SOON) {
            match command {
                Command::Preflight(wishes, reply) => {
                    asked.push(format!("preflight {}", wishes.len()));
                    reply(Vec::new());
                }
                Command::Stop(_, cause, reply) => {
                    asked.push(format!("stop {cause:?}"));
                    reply(Ok(UndoAnswer::UndoneNow));
                }
                Command::Halt { epoch, reason, reply } => {
                    asked.push(format!("halt {epoch} {} of {} KiB", &reason[..4], reason.len() >> 10));
                    reply(HaltAnswer { undone: 2, failed: 1 });
                    return (asked, agent);
                }
                _ => panic!("another command"),
            }
        }
        panic!("no halt")
    });
    assert_eq!(session.warden.preflight(vec![wish]).unwrap(), []);
    assert_eq!(session.warden.stop(order.injection, EndedBy::Stop).unwrap(), UndoAnswer::UndoneNow);
    // However long a reason is, the halt arrives.
    let reason = "fire ".repeat(10_000);
    assert_eq!(session.warden.halt(3, &reason).unwrap(), HaltAnswer { undone: 2, failed: 1 });
    let (asked, agent) = warden.join().unwrap();
    assert_eq!(asked, ["preflight 1", "stop Stop", "halt 3 fire of 16 KiB"]);
    drop(session);
    drop(agent.commands);
}

#[tokio::test]
async fn reports_programs_and_the_end_arrive() {
    let (agent, mut session) = both();
    let report = AgentReport {
        injection: InjectionId::generate(),
        run: "r".to_owned(),
        agent_seq: 1,
        boot_id: "b".to_owned(),
        boot_ms: 5,
        fact: AgentFact::Spent(Spent {
            consequences: vec!["killed redis".to_owned()],
        }),
    };
    agent.side.report(report.clone());
    assert_eq!(session.reports.recv().await, Some(report));
    let order = ProgramOrder {
        program: "queue".to_owned(),
        args: vec!["--length".to_owned()],
        timeout_ms: 1_000,
    };
    assert_eq!(session.programs.run(order).await.unwrap().output, "queue --length");
    // Names are resolved on the session's side.
    let (resolved, side) = (std::sync::mpsc::sync_channel(1), agent.side.clone());
    let sender = resolved.0;
    std::thread::spawn(move || drop(sender.send(side.resolve("localhost"))));
    let addresses = resolved.1.recv_timeout(SOON).unwrap().unwrap();
    assert!(
        addresses.iter().all(std::net::IpAddr::is_loopback) && !addresses.is_empty(),
        "{addresses:?}"
    );
    agent.side.leave();
    assert_eq!(session.reports.recv().await, None);
}

#[test]
fn a_session_that_answers_no_names_holds_the_warden_for_six_of_ten_seconds_at_most() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let agent = agent(ours);
    SessionSide::setup(&theirs).unwrap();
    let begin = Instant::now();
    let errors: Vec<String> = (0..1_000)
        .map(|n| agent.side.resolve(&format!("{n}.example")).unwrap_err().to_string())
        .collect();
    assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    assert!(errors[0].contains("does not answer"), "{}", errors[0]);
    assert!(errors[999].contains("give addresses instead"), "{}", errors[999]);
    drop(theirs);
}

#[test]
fn what_is_no_request_ends_the_session() {
    for bytes in [
        // Longer than any request.
        vec![0xff, 0xff, 0xff, 0x7f],
        // A request that does not exist.
        vec![2, 0, 0, 0, 1, 200],
    ] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let agent = agent(ours);
        SessionSide::setup(&theirs).unwrap();
        theirs.write_all(&bytes).unwrap();
        let end = agent.end.join().unwrap();
        assert!(matches!(end, End::Bad(_) | End::Io(_)), "{end}");
        // The agent has closed its end.
        theirs.set_read_timeout(Some(SOON)).unwrap();
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
        assert!(agent.commands.try_recv().is_err(), "nothing was asked");
        let none = agent.side.resolve("localhost").unwrap_err();
        assert!(none.to_string().contains("session process"), "{none}");
    }
}
